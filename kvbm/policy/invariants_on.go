//go:build invariants

package policy

func (t *Table) verify() {
	if err := t.Check(); err != nil {
		panic("kvbm: " + err.Error())
	}
}
