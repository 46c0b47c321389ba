package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"ringfence/hal/slot"
)

// FlashDisk writes a phone's disk to path, a sparse file of 98 MiB that is
// replaced as a whole: GPT; partition 1 the ESP (FAT32, laid out by package
// slot) with slotA at \EFI\phone\a.efi and, when not nil, slotB at b.efi, which
// is empty otherwise; partition 2 an empty
// ext4 file system "state". Equal inputs give equal bits.
func FlashDisk(ctx context.Context, path string, slotA, slotB []byte) error {
	if len(slotA) == 0 {
		return errors.New("a disk needs an image in slot A")
	}
	for slot, raw := range map[Slot][]byte{SlotA: slotA, SlotB: slotB} {
		if _, err := parsePE(raw); raw != nil && err != nil {
			return fmt.Errorf("image for slot %c: %w", slot, err)
		}
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".flash-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	disk, esp, state := filepath.Join(dir, "disk"), filepath.Join(dir, "esp"), filepath.Join(dir, "state")
	if err := makeESP(esp, slotA, slotB); err != nil {
		return err
	}
	if err := makeState(ctx, state); err != nil {
		return err
	}
	if err := makePartitions(ctx, disk); err != nil {
		return err
	}
	if err := place(disk, esp, espStart*blockSize); err != nil {
		return err
	}
	if err := place(disk, state, stateStart*blockSize); err != nil {
		return err
	}
	return os.Rename(disk, path)
}

func emptyFile(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Close())
}

func makePartitions(ctx context.Context, path string) error {
	sgdisk, err := tool("sgdisk", "gdisk")
	if err != nil {
		return err
	}
	if err := emptyFile(path, diskSize); err != nil {
		return err
	}
	_, err = run(ctx, "", nil, sgdisk, "-a", "1", "-U", diskGUID,
		"-n", fmt.Sprintf("1:%d:%d", espStart, espStart+espBlocks-1), "-t", "1:ef00", "-u", "1:"+espGUID, "-c", "1:esp",
		"-n", fmt.Sprintf("2:%d:%d", stateStart, stateStart+stateSize/blockSize-1), "-t", "2:8300", "-u", "2:"+stateGUID, "-c", "2:state", path)
	return err
}

// makeESP makes the volume of the two slots; see package slot.
func makeESP(path string, slotA, slotB []byte) error {
	if err := emptyFile(path, espBlocks*blockSize); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close() // every write of package slot was synced
	if err := slot.Format(espFile{f, 0}, espBlocks*blockSize, slotSize); err != nil {
		return err
	}
	if err := slot.Place(espFile{f, 0}, slot.A, slotA); err != nil {
		return err
	}
	if slotB == nil {
		return nil
	}
	return slot.Place(espFile{f, 0}, slot.B, slotB)
}

// Reflash puts an image into a slot of the disk at path, as somebody with the
// disk in hand would. The phone must be off.
func Reflash(path string, s Slot, image []byte) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(slot.Place(espFile{f, espStart * blockSize}, slot.ID(s), image), f.Close())
}

// espFile is the ESP in a file, as a slot.Disk.
type espFile struct {
	f     *os.File
	start int64
}

func (e espFile) ReadAt(p []byte, off int64) (int, error)  { return e.f.ReadAt(p, e.start+off) }
func (e espFile) WriteAt(p []byte, off int64) (int, error) { return e.f.WriteAt(p, e.start+off) }
func (e espFile) Sync() error                              { return e.f.Sync() }

func makeState(ctx context.Context, path string) error {
	if err := emptyFile(path, stateSize); err != nil {
		return err
	}
	mkfs, err := tool("mkfs.ext4", "e2fsprogs")
	if err != nil {
		return err
	}
	env := []string{"E2FSPROGS_FAKE_TIME=" + kernelEpoch}
	_, err = run(ctx, "", env, mkfs, "-q", "-F", "-L", "state", "-m", "0", "-U", stateGUID,
		"-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0,hash_seed="+diskGUID, path)
	return err
}

// place copies the file part into the file disk at offset, leaving holes where
// it is zero.
func place(disk, part string, offset int64) error {
	src, err := os.Open(part)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if err := copySparse(dst, src, offset); err != nil {
		return errors.Join(fmt.Errorf("place %s at %s: %w", filepath.Base(part), strconv.FormatInt(offset, 10), err), dst.Close())
	}
	return dst.Close()
}

func copySparse(dst io.WriterAt, src io.Reader, offset int64) error {
	buf, zero := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(src, buf)
		if n > 0 && string(buf[:n]) != string(zero[:n]) {
			if _, err := dst.WriteAt(buf[:n], offset); err != nil {
				return err
			}
		}
		offset += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
