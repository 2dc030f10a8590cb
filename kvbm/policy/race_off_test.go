//go:build !race

package policy

// raceDetector tells tests that take long under it, and prove nothing there.
const raceDetector = false
