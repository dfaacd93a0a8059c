package kube

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/token-projector/token-projector/projector"
)

// scripted answers each list with what is set, and never lets a watch begin. A
// real server can't be made to forbid at a given moment.
type scripted struct{ fails atomic.Pointer[error] }

func (s *scripted) answer(err error) { s.fails.Store(&err) }

func (s *scripted) list(context.Context, string, *metav1.ListOptions) ([]*corev1.ConfigMap, string, error) {
	if err := *s.fails.Load(); err != nil {
		return nil, "", err
	}
	return []*corev1.ConfigMap{{ObjectMeta: metav1.ObjectMeta{Name: "cm", UID: "u", ResourceVersion: "1"}}}, "1", nil
}

func (*scripted) watch(context.Context, string, *metav1.ListOptions) (watch.Interface, error) {
	return nil, errors.New("no watch")
}

// TestWhatWasSeenCountsUntilARefusalLasts: an outage changes nothing, and
// neither does the refusal of a server that has just begun; one that lasts is
// told, and so is its end.
func TestWhatWasSeenCountsUntilARefusalLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, told := &scripted{}, 0
		m := newObjects[*corev1.ConfigMap](api, func(projector.Key) { told++ })
		ctx, cancel := context.WithCancel(t.Context())
		defer m.end()
		defer cancel()
		get := func() error {
			synctest.Wait()
			_, err := m.getOne(ctx, ctx, projector.Key{PodUID: "p"}, objectName{"ns", "cm"}, corev1.Resource("configmaps"))
			return err
		}
		forbidden := apierrors.NewForbidden(corev1.Resource("configmaps"), "cm", errors.New("no relationship found"))
		for _, step := range []struct {
			what   string
			answer error
			lasts  time.Duration
			fails  bool
			told   int
		}{
			{"at first", nil, 0, false, 0},
			{"an outage", errors.New("connection refused"), time.Hour, false, 0},
			{"a short refusal", forbidden, refusalLasts / 2, false, 0},
			{"its end", nil, time.Minute, false, 0},
			{"a refusal", forbidden, 3 * refusalLasts, true, 1},
			{"and its end", nil, time.Minute, false, 2},
		} {
			api.answer(step.answer)
			time.Sleep(step.lasts)
			if err := get(); (err != nil) != step.fails {
				t.Errorf("%s: get() = %v, want an error: %v", step.what, err, step.fails)
			}
			if told != step.told {
				t.Errorf("%s: users were told %d times, want %d", step.what, told, step.told)
			}
		}
	})
}
