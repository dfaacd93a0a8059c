// Command projectorctl talks to the projectord of its node, looks at what projectord
// and the kubelet project, runs programs that read tokens, and removes what projectord
// has left. All of it is in internal/ctl.
package main

import "github.com/token-projector/token-projector/internal/ctl"

func main() { ctl.Main() }
