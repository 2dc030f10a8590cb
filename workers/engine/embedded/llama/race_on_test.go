//go:build race

package llama

const raceDetector = true
