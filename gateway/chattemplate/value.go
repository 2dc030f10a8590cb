package chattemplate

// Value is a Python value: what FromJSON makes and Render reads.
type Value interface {
	typeName() string
}
