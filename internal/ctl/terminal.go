package ctl

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// size is that of a terminal, in characters.
type size struct{ columns, rows int }

// terminal returns the size of the terminal behind w; ok is false if there is none.
func terminal(w io.Writer) (s size, ok bool) {
	file, isFile := w.(*os.File)
	if !isFile {
		return size{}, false
	}
	found, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return size{}, false
	}
	if found.Col == 0 || found.Row == 0 { // as on a serial line
		return size{80, 24}, true
	}
	return size{int(found.Col), int(found.Row)}, true
}

// width is how long lines may be; 0 is any length.
func width(w io.Writer) int {
	s, _ := terminal(w)
	return s.columns
}
