package testenv

// Give is give, for a test of what it does without software.
var Give = give
