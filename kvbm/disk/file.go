package disk

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// file is what the store needs of a file. Tests put faults behind it.
type file interface {
	ReadAt(b []byte, off int64) (int, error)
	WriteAt(b []byte, off int64) (int, error)
	Sync() error
	Close() error
}

// osFile is a file whose Sync leaves out metadata that reading does not need.
type osFile struct{ *os.File }

func (f osFile) Sync() error { return unix.Fdatasync(int(f.Fd())) }

// lockFolder makes sure that one process at a time uses a folder. The lock ends
// with the process.
func lockFolder(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("disk tier: %w; give it a folder that this user may write to", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		err = fmt.Errorf("disk tier: %s is in use by another worker (%w); give each worker a folder of its own", path, err)
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// openDirect opens the slab with O_DIRECT, or without where the file system
// does not have it.
func openDirect(path string) (f *os.File, direct bool, err error) {
	f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_DIRECT, 0o600)
	if errors.Is(err, unix.EINVAL) {
		f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		return f, false, err
	}
	return f, err == nil, err
}

// undirect turns O_DIRECT off, for file systems that accept it at open and
// refuse the I/O.
func undirect(f *os.File) error {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETFL, flags&^unix.O_DIRECT)
	return err
}

// allocate gives the file its size and, if the file system can, its space. A
// file that was larger is cut. full tells that the space is not there.
func allocate(f *os.File, size int64) (full bool, err error) {
	if err := f.Truncate(size); err != nil {
		return false, err
	}
	err = unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.ENOSPC) {
		return true, nil
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return false, nil
	}
	return false, err
}
