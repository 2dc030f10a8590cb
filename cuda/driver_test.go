package cuda

import (
	"errors"
	"os"
	"testing"
)

// Either there is a driver and it describes its devices, or there is none and
// that is said; which of the two, the machine decides, so both are checked
// against what the kernel says.
func TestOpenAgreesWithTheMachine(t *testing.T) {
	_, statErr := os.Stat("/dev/nvidiactl")
	d, err := Open()
	if statErr != nil {
		if !errors.Is(err, ErrNoDriver) {
			t.Fatalf("no GPU here, but Open returned %v, %v", d, err)
		}
		t.Logf("no GPU on this machine: %v", err)
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	major, minor, err := d.Version()
	if err != nil || major < 11 {
		t.Errorf("version %d.%d, %v", major, minor, err)
	}
	devices, err := d.Devices()
	if err != nil || len(devices) == 0 {
		t.Fatalf("devices %v, %v", devices, err)
	}
	for _, g := range devices {
		if g.Name == "" || g.MemoryBytes < 1<<30 || g.ComputeMajor < 3 {
			t.Errorf("implausible device %+v", g)
		}
		t.Logf("CUDA %d.%d: %+v", major, minor, g)
	}
}
