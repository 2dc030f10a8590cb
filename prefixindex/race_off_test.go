//go:build !race

package prefixindex

const raceSlowdown = 1
