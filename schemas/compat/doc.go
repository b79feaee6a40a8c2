// Package compat compares two JSON Schemas, or two sets of datasets, and reports whether the newer may follow the older
// while events of the older are still on their way.
//
//	report := compat.Schemas(old, new, compat.Config{})
//	if report.Answer != compat.Safe { … }
//
// Safe means: every event that is valid under the older schema is valid under the newer one, and every column that the
// older one fills is still filled, with the same kind of value. The answer is proved keyword by keyword over a subset of
// JSON Schema: type, enum, const, required, properties, additionalProperties, items, the bounds of numbers, lengths,
// items and properties, multipleOf, uniqueItems, pattern (the same or none) and format. Whatever else differs is answered
// by Unknown. Breaking does not claim that such an event exists, only that nothing rules it out.
//
// One assumption is made unless Config.Strict is set: a property that the newer schema declares for the first time is
// absent from earlier events. JSON Schema lets undeclared properties hold anything, so without it no property could ever
// be added to an open schema.
package compat
