package tokenfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/fsnotify/fsnotify"
)

// watcher is what fsnotify offers, as far as it is used.
type watcher struct {
	events <-chan fsnotify.Event
	errs   <-chan error
	add    func(dir string) error
	list   func() []string
	close  func() error
}

func newWatcher() (*watcher, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	return &watcher{events: w.Events, errs: w.Errors, add: w.Add, list: w.WatchList, close: w.Close}, nil
}

// watch watches the places of one file, which may be others each time. Only Run
// uses it. Its zero value but for make watches nothing.
type watch struct {
	make func() (*watcher, error)
	*watcher
	places []place
	dirs   map[string]os.FileInfo
}

// followTries is how often the places are looked up again because they changed
// while they were being watched. Whatever changes more often is polled.
const followTries = 5

// follow watches the places of a file as they are now. It must come before the
// file is read, or what happens between the two is not noticed.
func (w *watch) follow(path string) error {
	for range followTries {
		now, _ := places(path)
		if w.covers(now) {
			return nil
		}
		w.end()
		if err := w.begin(now); err != nil {
			w.end()
			return fmt.Errorf("watching %s: %w", filepath.Dir(path), err)
		}
	}
	return nil
}

// covers says whether just these places are watched, in directories that are
// still the same ones: another may have been renamed or mounted there. The list
// lacks those that were deleted or unmounted.
func (w *watch) covers(now []place) bool {
	if w.watcher == nil || !slices.Equal(w.places, now) {
		return false
	}
	listed := w.list()
	for dir, was := range w.dirs {
		is, err := os.Stat(dir)
		if err != nil || !os.SameFile(was, is) || !slices.Contains(listed, dir) {
			return false
		}
	}
	return true
}

// begin watches with a new watcher: a watch whose directory is now below another
// mount can't be taken back by its path.
func (w *watch) begin(now []place) (err error) {
	if w.watcher, err = w.make(); err != nil {
		w.watcher = nil
		return err
	}
	w.places, w.dirs = now, map[string]os.FileInfo{}
	for _, p := range now {
		if w.dirs[p.dir] != nil {
			continue
		}
		if w.dirs[p.dir], err = os.Stat(p.dir); err == nil {
			err = w.add(p.dir)
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil // it went just now, and covers will say so
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// end stops watching. Nothing runs any more when it returns.
func (w *watch) end() {
	if w.watcher != nil {
		_ = w.close()
	}
	w.watcher, w.places, w.dirs = nil, nil, nil
}

// signs are the channels to wait on; those of no watcher never tell anything.
func (w *watch) signs() (<-chan fsnotify.Event, <-chan error) {
	if w.watcher == nil {
		return nil, nil
	}
	return w.events, w.errs
}

// concerns says whether an event is about one of the places: others happen in a
// directory that is shared. The directory's own name is about its end.
func (w *watch) concerns(e fsnotify.Event) bool {
	name := filepath.Clean(e.Name)
	return slices.ContainsFunc(w.places, func(p place) bool {
		return name == p.dir || name == filepath.Join(p.dir, p.name)
	})
}
