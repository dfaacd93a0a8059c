//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/token-projector/token-projector/rotation"
)

// restarts ends and restarts the driver and the kubelet, while no token is due for
// minutes.
func (s *csiStory) restarts() {
	s.Helper()
	for _, pod := range s.pods {
		for _, f := range s.csiFiles(pod) {
			s.eventually("a token that lives longer", func() error {
				if lifetime := s.lifetime(f.Path); lifetime < 10*time.Minute {
					return fmt.Errorf("it lives %s", lifetime)
				}
				return nil
			})
		}
	}
	s.minted = s.service.Requests()[tokenRequests]
	s.adopted("driver's Pod replaced", func() {
		s.run("delete", "pod", "--namespace="+namespace, s.driverPod(), "--wait")
	})
	s.adopted("driver killed", func() {
		before := s.driverStarts()
		s.killDriver()
		s.eventually("the container to be started again", func() error {
			if s.driverStarts() == before {
				return errors.New("it has not been")
			}
			return nil
		})
	})
	s.adopted("kubelet restarted", s.restartKubelet)
	s.adopted("both at once", func() {
		s.node.Kubelet.Stop()
		s.killDriver()
		before := s.driverPod()
		s.run("delete", "pod", "--namespace="+namespace, before, "--wait=false")
		began := time.Now()
		s.must(s.node.Kubelet.Start(s.ctx))
		s.waitNode(began)
		s.run("wait", "--namespace="+namespace, "--for=delete", "pod/"+before, "--timeout="+patience.String())
	})
}

// adopted does something that ends the driver, or who asks it, and waits until it
// serves again: the same mounts, one for each volume, with the same files in them,
// and no request for a token.
func (s *csiStory) adopted(what string, do func()) {
	s.Helper()
	s.keepLogs()
	state := func() (all string) {
		for _, pod := range s.pods {
			for _, f := range s.csiFiles(pod) {
				var st syscall.Stat_t
				s.must(syscall.Stat(f.Path, &st))
				all += fmt.Sprintln(f.Path, st.Dev, st.Ino, st.Ctim)
			}
		}
		return all
	}
	before, began := state(), time.Now()
	do()
	s.eventually("all volumes to be adopted", s.allAdopted)
	s.noTokenRequests(what)
	if after := state(); after != before {
		s.Errorf("%s: files have changed, from\n%sto\n%s", what, before, after)
	}
	s.oneMountEach()
	s.Logf("%s: %s", what, time.Since(began).Round(100*time.Millisecond))
}

// allAdopted says why not all volumes are what the driver's process has found and
// taken over. That it serves them is not enough: a kubelet may have asked again.
func (s *csiStory) allAdopted() error {
	if err := s.ready(); err != nil {
		return err
	}
	pod, err := s.daemonPod()
	if err != nil {
		return err
	}
	response, err := http.Get("http://" + net.JoinHostPort(pod.Status.PodIP, "9843") + "/metrics")
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if want := fmt.Sprintf("\nprojectord_adoptions_total %d\n", len(s.pods)); !strings.Contains(string(text), want) {
		return fmt.Errorf("the metrics do not have %s\n%s", want, text)
	}
	return nil
}

// noTokenRequests says how many tokens were asked for since none was due. What the
// kubelet asks for late counts with what comes next.
func (s *csiStory) noTokenRequests(what string) {
	s.Helper()
	if n := s.service.Requests()[tokenRequests] - s.minted; n != 0 {
		s.Errorf("%s: %d TokenRequests, want 0", what, n)
	}
}

func (s *csiStory) driverPod() string {
	s.Helper()
	pod, err := s.daemonPod()
	s.must(err)
	return pod.Name
}

// driverStarts is how often the container in the driver's Pod was started again.
func (s *csiStory) driverStarts() int32 {
	s.Helper()
	pod, err := s.daemonPod()
	s.must(err)
	if len(pod.Status.ContainerStatuses) == 0 {
		return 0
	}
	return pod.Status.ContainerStatuses[0].RestartCount
}

func (s *csiStory) killDriver() {
	s.Helper()
	for _, id := range s.processes("projectord") {
		s.must(syscall.Kill(id, syscall.SIGKILL))
	}
}

// absence deletes Pods while no driver runs: they wait for it and go when it is
// back. The others' tokens are rotated then, in the mounts that there were.
func (s *csiStory) absence() {
	s.Helper()
	s.keepLogs()
	before := s.driverPod()
	s.patchDriver(`{"nodeSelector":{"driver":"away"}}`)
	s.run("wait", "--namespace="+namespace, "--for=delete", "pod/"+before, "--timeout="+patience.String())
	s.noTokenRequests("driver away")
	going, staying := s.pods[len(s.pods)-4:], s.pods[:len(s.pods)-4]
	args := []string{"delete", "pod", "--namespace=csi", "--wait=false"}
	for _, pod := range going {
		for _, f := range s.csiFiles(pod) {
			s.referee.Release(f.Path)
		}
		args = append(args, pod.Name)
	}
	s.run(args...)
	s.eventually("the kubelet to miss the driver", func() error {
		var failures strings.Builder
		for line := range strings.Lines(s.hostFile(s.node.Kubelet.Log)) {
			if strings.Contains(line, "UnmountVolume.TearDown failed") {
				failures.WriteString(line)
			}
		}
		for _, pod := range going {
			if !strings.Contains(failures.String(), string(pod.UID)) {
				return fmt.Errorf("it has not tried to unmount the volume of Pod %s", pod.Name)
			}
			_, err := s.client.CoreV1().Pods(pod.Namespace).Get(s.ctx, pod.Name, metav1.GetOptions{})
			s.must(err) // it must not be gone
		}
		return nil
	})
	s.oneMountEach()

	last, devices := s.tokens(), s.devices()
	began := time.Now()
	// Tokens that are older than this are due at once.
	s.patchDriver(fmt.Sprintf(`{"nodeSelector":{"driver":null},"containers":[{"name":%q,"env":[{"name":"PROJECTORD_ROTATION_MAX_AGE","value":%q}]}]}`, namespace, brief))
	s.pods = staying
	s.eventually("Pods that were deleted to go", func() error {
		for _, pod := range going {
			if _, err := s.client.CoreV1().Pods(pod.Namespace).Get(s.ctx, pod.Name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				return fmt.Errorf("Pod %s is there: %w", pod.Name, err)
			}
		}
		return nil
	})
	took := time.Since(began).Seconds()
	fmt.Printf("RESULT csi_absent pods=%d gone_s=%.1f\n", len(going), took)
	if took > goneLimit {
		s.Errorf("they went after %.1f s, want at most %d", took, goneLimit)
	}
	s.rollout(namespace, namespace)
	s.oneMountEach()
	s.eventually("rotations by the new process, and programs to see them", func() error {
		for path, token := range s.tokens() {
			if token == last[path] {
				return fmt.Errorf("%s has the old token", path)
			}
		}
		return s.programsSee(s.tokens())
	})
	for path, device := range s.devices() {
		if device != devices[path] {
			s.Errorf("%s is another mount", path)
		}
	}
}

// goneLimit is how many seconds Pods that were deleted meanwhile may take to go,
// when the driver is back.
const goneLimit = 30

// patchDriver changes the Pod template of the DaemonSet.
func (s *csiStory) patchDriver(spec string) {
	s.Helper()
	s.run("patch", "daemonset", "--namespace="+namespace, namespace, "--patch", `{"spec":{"template":{"spec":`+spec+`}}}`)
}

// tokens are the ids of those in the files, by path.
func (s *csiStory) tokens() map[string]string {
	s.Helper()
	ids := map[string]string{}
	for _, pod := range s.pods {
		for _, f := range s.csiFiles(pod) {
			claims, err := rotation.ParseClaims(strings.TrimSpace(s.waitFile(f.Path)))
			s.must(err)
			ids[f.Path] = claims.ID
		}
	}
	return ids
}

// devices are what the volumes are mounted from, by path.
func (s *csiStory) devices() map[string]uint64 {
	s.Helper()
	devices := map[string]uint64{}
	for _, pod := range s.pods {
		var st syscall.Stat_t
		s.must(syscall.Stat(csiVolume(pod), &st))
		devices[csiVolume(pod)] = st.Dev
	}
	return devices
}
