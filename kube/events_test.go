package kube

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/token-projector/token-projector/projector"
)

// TestEventsOfOnePodDoNotSilenceAnother, and there is an end to those of one.
func TestEventsOfOnePodDoNotSilenceAnother(t *testing.T) {
	c := &Client{node: "n"}
	c.events = newEvents(c)
	event := func(uid string) {
		c.Event(projector.PodRef{Namespace: "ns", Name: "p", UID: types.UID(uid)}, projector.Event{Reason: "R", Message: strings.Repeat("m", 2000)})
	}
	for range 10 * eventBurst {
		event("flapping")
	}
	event("other")
	close(c.events.queue)
	count := map[types.UID]int{}
	for e := range c.events.queue {
		count[e.InvolvedObject.UID]++
		if len(e.Message) > maxEventMessage {
			t.Errorf("a message of %d bytes", len(e.Message))
		}
	}
	if count["flapping"] != eventBurst || count["other"] != 1 {
		t.Errorf("events %v, want %d and 1", count, eventBurst)
	}
}

func TestEventName(t *testing.T) {
	for _, pod := range []string{"p", strings.Repeat("a", 253), strings.Repeat("a", 199) + "-" + strings.Repeat("b", 53), strings.Repeat("a.", 126) + "a"} {
		if name := eventName(pod, time.Now()); len(validation.IsDNS1123Subdomain(name)) != 0 {
			t.Errorf("%q is no name for an object", name)
		}
	}
}
