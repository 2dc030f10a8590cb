//go:build !race

package llama

const raceDetector = false
