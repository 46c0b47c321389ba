// Package all is the list of boards, and the choice of the one this is: named
// by the measured command line and confirmed by the device tree. It guesses
// nothing: a board that is not named does not boot.
package all

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"ringfence/boards"
	"ringfence/boards/virt64"
)

// Boards returns every board.
func Boards() []boards.Board { return []boards.Board{virt64.Board()} }

// parameter is the word of the kernel's command line that names the board.
const parameter = "ringfence.board="

// Choose returns the board that cmdline (/proc/cmdline) names, if compatible
// (/proc/device-tree/compatible, NUL-separated) says the same.
func Choose(cmdline string, compatible []byte) (boards.Board, error) {
	var names []string
	for word := range strings.FieldsSeq(cmdline) {
		if name, ok := strings.CutPrefix(word, parameter); ok {
			names = append(names, name)
		}
	}
	if len(names) != 1 {
		return boards.Board{}, fmt.Errorf("command line names %d boards, want 1", len(names))
	}
	all := Boards()
	i := slices.IndexFunc(all, func(b boards.Board) bool { return b.Name == names[0] })
	if i < 0 {
		return boards.Board{}, fmt.Errorf("unknown board %q", names[0])
	}
	for _, c := range bytes.Split(compatible, []byte{0}) {
		if string(c) == all[i].Compatible && len(c) > 0 {
			return all[i], nil
		}
	}
	return boards.Board{}, errors.New("device tree is not that of board " + names[0])
}
