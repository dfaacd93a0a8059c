package ctl

import (
	"fmt"
	"io"
	"time"

	"github.com/token-projector/token-projector/internal/inspect"
	api "github.com/token-projector/token-projector/proto/tokenprojector/v1alpha1"
)

// jsonLines shows each event as it comes.
type jsonLines struct{ out, notes io.Writer }

func (l jsonLines) event(event *api.WatchVolumesResponse) error {
	line, err := toJSON(event)
	if err != nil {
		return err
	}
	_, err = l.out.Write(line)
	return err
}

func (l jsonLines) lost(why error) error {
	_, err := fmt.Fprintf(l.notes, "waiting: %v\n", why)
	return err
}

// textLines shows each change as a line.
type textLines struct {
	out   io.Writer
	now   func() time.Time
	known *tracker
}

func (l *textLines) event(event *api.WatchVolumesResponse) error {
	now := l.now()
	for _, c := range l.known.apply(event, now) {
		text := fmt.Sprintf("%s  %s", argument(c.Volume), phaseText(c.Volume))
		if c.verb == "deleted" {
			text = argument(c.Volume)
		} else if nextToken(c.Volume) != nil {
			text += ", next rotation " + nextText(c.Volume, now)
		}
		if c.verb != "deleted" && c.GetLastError() != "" {
			text += ": " + inspect.Printable(c.GetLastError())
		}
		if err := l.line(now, c.verb, text); err != nil {
			return err
		}
	}
	if event.GetType() == api.EventType_EVENT_TYPE_INITIAL_SYNC_COMPLETE {
		return l.line(now, "watching", fmt.Sprintf("volumes: %d", len(l.known.volumes)))
	}
	return nil
}

func (l *textLines) lost(why error) error {
	l.known.gap()
	return l.line(l.now(), "waiting", why.Error())
}

func (l *textLines) line(now time.Time, verb, text string) error {
	_, err := fmt.Fprintf(l.out, "%s  %-8s  %s\n", now.UTC().Format(time.RFC3339), verb, text)
	return err
}
