//go:build e2e

package e2e

import (
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

var csiKills = flag.Int("csi-kills", 3, "after how many steps of each kind of trial the CSI driver is killed; 0 is all")

// crashTrial is one kill of the CSI driver.
type crashTrial struct {
	operation string // that is killed
	number    int    // of the step that is the driver's last, from 1
	step      step
	deletes   bool     // the Pod is deleted right after it
	held      []string // the names of all steps
}

func (tr crashTrial) String() string {
	text := fmt.Sprintf("killed in %s after step %d, %s", tr.operation, tr.number, tr.step.name)
	if tr.deletes {
		text += ", then deleted"
	}
	return text
}

// TestCSICrash kills the CSI driver after each step of a publication and of its end,
// or after some of them: with the driver that comes next the Pod runs, or goes, and
// nothing is left.
func TestCSICrash(t *testing.T) {
	r := newRig(t)
	r.namespace("csi-crash")
	r.apply(filepath.Join(repository, "deploy/daemonset"))
	r.rollout(namespace, namespace)
	mounts, dirs := r.mountPoints(), r.podDirs()

	trials := r.crashTrials(*csiKills)
	survived := 0
	for _, tr := range trials {
		began := time.Now() // most of the time the kubelet waits to try again
		if err := r.undergo(tr); err != nil {
			t.Errorf("%s: %v", tr, err)
			continue
		}
		survived++
		t.Logf("%s: survived in %s", tr, time.Since(began).Round(100*time.Millisecond))
	}
	err := within("mounts and directories to be as they were", func() error {
		if now := r.mountPoints(); !slices.Equal(now, mounts) {
			return fmt.Errorf("mounts were\n%s\nand are\n%s", strings.Join(mounts, "\n"), strings.Join(now, "\n"))
		}
		if now := r.podDirs(); !slices.Equal(now, dirs) {
			return fmt.Errorf("Pods' directories were %q and are %q", dirs, now)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	fmt.Printf("RESULT csi_crash points=%d survived=%d\n", len(trials), survived)
}

// crashTrials finds the steps in traces of a Pod that nothing happens to, and chooses
// some of them, or all if the number is 0, for each kind of trial.
func (r *rig) crashTrials(some int) (trials []crashTrial) {
	r.Helper()
	tr := r.trace(r.driver(), 0, nil)
	pod := r.crashPod("traced")
	r.must(r.runs(pod))
	publish, err := tr.detach()
	r.must(err)
	r.seesLeaks(pod)
	tr = r.trace(r.driver(), 0, nil)
	r.must(r.goes(pod))
	unpublish, err := tr.detach()
	r.must(err)
	if len(publish) < 10 || len(unpublish) < 5 {
		r.Fatalf("only %d and %d steps", len(publish), len(unpublish))
	}
	var held []string
	for _, s := range slices.Concat(publish, unpublish) {
		held = append(held, s.name)
	}
	slices.Sort(held)
	held = slices.Compact(held)
	add := func(tr crashTrial, steps []step, chosen []int) {
		for _, i := range chosen {
			tr.number, tr.step, tr.held = i+1, steps[i], held
			trials = append(trials, tr)
		}
	}
	add(crashTrial{operation: "publish"}, publish, spread(len(publish), some))
	add(crashTrial{operation: "publish", deletes: true}, publish, between(len(publish), some))
	add(crashTrial{operation: "unpublish"}, unpublish, spread(len(unpublish), some))
	return trials
}

// spread chooses some of n numbers from 0, or all: the first, the last and others at
// even distances.
func spread(n, some int) (chosen []int) {
	if some < 2 || some > n {
		some = n
	}
	for i := range some {
		chosen = append(chosen, i*(n-1)/(some-1))
	}
	return chosen
}

// between chooses what lies in the middle between those that spread chooses, or all.
func between(n, some int) (chosen []int) {
	ends := spread(n, some)
	if len(ends) == n {
		return ends
	}
	for i := range len(ends) - 1 {
		chosen = append(chosen, (ends[i]+ends[i+1])/2)
	}
	return chosen
}

// undergo does one trial and says what was not as it should be.
func (r *rig) undergo(tr crashTrial) error {
	r.Helper()
	name := fmt.Sprintf("%s-%d-%t", tr.operation, tr.number, tr.deletes)
	var pod *corev1.Pod
	if tr.operation == "unpublish" {
		pod = r.crashPod(name)
		if err := r.runs(pod); err != nil {
			return err
		}
	}
	watched := r.trace(r.driver(), tr.number, tr.held)
	if tr.operation == "unpublish" {
		r.remove(pod)
	} else {
		pod = r.crashPod(name)
	}
	if err := watched.wait(); err != nil {
		return err
	}
	if err := watched.missed(tr.step.name); err != nil {
		return err
	}
	if tr.operation == "publish" && !tr.deletes {
		if err := r.runs(pod); err != nil {
			return err
		}
	}
	return r.goes(pod)
}

// driver is the id of the process of the CSI driver, once one runs that the kubelet
// knows: what is asked of another waits for the kubelet's backoff.
func (r *rig) driver() (id int) {
	r.Helper()
	r.eventually("the driver's process", func() error {
		// One that was killed and not reaped yet has no program.
		ids := slices.DeleteFunc(r.processes("projectord"), func(id int) bool { return !exists(fmt.Sprintf("/proc/%d/exe", id)) })
		if len(ids) != 1 {
			return fmt.Errorf("there are %d", len(ids))
		}
		id = ids[0]
		pod, err := r.daemonPod()
		if err != nil {
			return err
		}
		log, err := r.client.CoreV1().Pods(namespace).GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(r.ctx)
		if err == nil && !strings.Contains(string(log), "the kubelet has registered the CSI driver") {
			err = errors.New("it is not registered")
		}
		return err
	})
	return id
}
