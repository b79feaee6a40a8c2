package tables

// DatasetError says that a dataset cannot be written as things are: its table is missing or differs, or its cache hash in
// the database is not ours. The dataset pauses; others flow. Nothing was written.
type DatasetError struct {
	Dataset string
	// Errno is MySQL's error number, 0 when Freshet found it itself.
	Errno uint16
	// Problem and Fix are for people; no row values.
	Problem, Fix string
	// Loss: what is refused would lose rows or states, and may be done all the same if the operator accepts that.
	Loss bool
}

// Error returns "dataset users: problem; fix".
func (e *DatasetError) Error() string {
	s := "dataset " + e.Dataset + ": " + e.Problem
	if e.Fix != "" {
		s += "; " + e.Fix
	}
	return s
}
