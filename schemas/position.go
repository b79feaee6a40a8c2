package schemas

// Positions are numbered by epoch and offset:
//
//	bit 52        40 39                                     0
//	    | epoch (13) | offset + 1 (40)                      |
const (
	offsetBits  = 40
	maxEpoch    = int64(1)<<13 - 2
	maxPosition = int64(1)<<offsetBits - 3
)

// PositionVersion is the version of a record in a dataset whose versions are positions (version: offset). The epoch counts
// how often the topic was recreated, so that a new topic's versions are above the old one's. Errors are FieldErrors.
func PositionVersion(epoch, offset int64) (int64, error) {
	if epoch < 0 || epoch > maxEpoch || offset < 0 || offset > maxPosition {
		return 0, &FieldError{
			Field: "version", Problem: "cannot be made of a position so far on", Fix: "use a version column",
			Reason: ReasonVersion,
		}
	}
	return epoch<<offsetBits | (offset + 1), nil
}
