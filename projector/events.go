package projector

import (
	"errors"
	"fmt"

	"github.com/token-projector/token-projector/projector/payload"
)

// Event is what somebody who looks at a Pod should know of its volumes.
type Event struct {
	Warning         bool
	Reason, Message string
}

// The reasons of events.
const (
	// ReasonSource: an object that a source names can't be had, or lacks a key.
	ReasonSource = "SourceUnavailable"
	// ReasonProjection: a token can't be had, or the volume can't be written.
	ReasonProjection = "TokenProjectionFailed"
	// ReasonRecovered follows either, once.
	ReasonRecovered = "TokenProjectionRecovered"
)

// problemEvent says that a volume has a problem.
func problemEvent(key Key, phase Phase, err error) Event {
	reason := ReasonProjection
	var source *payload.SourceError
	if errors.As(err, &source) && source.Kind != payload.KindToken {
		reason = ReasonSource
	}
	state := "it waits for its first publication"
	if phase == PhaseDegraded {
		state = "what was published stays"
	}
	return Event{Warning: true, Reason: reason, Message: fmt.Sprintf("Volume %q: %v (%s)", key.Volume, err, state)}
}

func recoveredEvent(key Key) Event {
	return Event{Reason: ReasonRecovered, Message: fmt.Sprintf("Volume %q is published and current", key.Volume)}
}
