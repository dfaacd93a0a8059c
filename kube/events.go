package kube

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/token-projector/token-projector/projector"
)

// How many events a node posts: the projector tells each change once, and
// whoever lets a volume break and heal in a loop must not fill etcd.
const (
	eventsPerSecond = 1
	eventBurst      = 100
	// maxEventMessage is what an Event may hold (events.k8s.io/v1).
	maxEventMessage = 1024
	eventComponent  = "projectord"
)

// events posts Events, one after another, and drops what is too much.
type events struct {
	client  *Client
	limiter flowcontrol.RateLimiter
	queue   chan *corev1.Event
}

func newEvents(c *Client) *events {
	return &events{
		client: c, queue: make(chan *corev1.Event, eventBurst),
		limiter: flowcontrol.NewTokenBucketRateLimiter(eventsPerSecond, eventBurst),
	}
}

// Event posts an Event about a Pod, in the background. It is lost if there are
// too many, if the API server can't be reached, and before Run. It does nothing
// for a Pod whose name is not known.
func (c *Client) Event(pod projector.PodRef, e projector.Event) {
	if pod.Name == "" || !c.events.limiter.TryAccept() {
		return
	}
	kind := corev1.EventTypeNormal
	if e.Warning {
		kind = corev1.EventTypeWarning
	}
	message := e.Message
	if len(message) > maxEventMessage {
		message = message[:maxEventMessage-3] + "..."
	}
	now := metav1.Now()
	event := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: eventName(pod.Name, now.Time)},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
		},
		Type: kind, Reason: e.Reason, Message: message,
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
		Source:              corev1.EventSource{Component: eventComponent, Host: c.node},
		ReportingController: eventComponent, ReportingInstance: c.node,
	}
	select {
	case c.events.queue <- event:
	default:
	}
}

// eventName is like those of client-go's recorder: unique, and sorted by time.
func eventName(pod string, now time.Time) string {
	prefix := strings.TrimRight(fmt.Sprintf("%.200s", pod), "-.")
	return fmt.Sprintf("%s.%x%04x", prefix, now.UnixNano(), rand.N(1<<16))
}

// run posts what is queued until ctx ends.
func (e *events) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-e.queue:
			posting, cancel := context.WithTimeout(ctx, callTimeout)
			err := e.client.core.Post().Namespace(event.Namespace).Resource("events").Body(event).Do(posting).Error()
			cancel()
			if err != nil && ctx.Err() == nil {
				// The same is in the log; an Event is a courtesy.
				select {
				case <-time.After(firstConnectRetry):
				case <-ctx.Done():
				}
			}
		}
	}
}
