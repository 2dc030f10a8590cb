//go:build race

package prefixindex

// raceSlowdown is about how much slower the race detector makes a test.
const raceSlowdown = 16
