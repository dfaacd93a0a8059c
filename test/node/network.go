package node

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
)

// IP is the address of a node that runs containers. It is one for documentation,
// so nothing else has it.
const IP = "198.51.100.10"

// cniDir is where Debian has the CNI plugins.
const cniDir = "/usr/lib/cni"

// cniConfig gives each Pod a cable to the node, and to nowhere else.
const cniConfig = `{
  "cniVersion": "0.4.0",
  "name": "pods",
  "plugins": [{
    "type": "ptp",
    "ipam": {
      "type": "host-local",
      "dataDir": "%s/cni-addresses",
      "ranges": [[{"subnet": "10.244.0.0/24"}]],
      "routes": [{"dst": "0.0.0.0/0"}]
    }
  }]
}
`

// setUpNetwork gives the machine the node's address and configures that of Pods.
func setUpNetwork(dir string) error {
	if err := AddAddress(IP); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "cni"), 0755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "cni", "pods.conflist"), fmt.Appendf(nil, cniConfig, dir), 0600)
}

// AddAddress gives the machine one more address, on its loopback, which Pods
// reach too.
func AddAddress(ip string) error {
	address, err := netlink.ParseAddr(ip + "/32")
	if err != nil {
		return err
	}
	loopback, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.AddrReplace(loopback, address)
	}
	if err != nil {
		return fmt.Errorf("adding address %s: %w", ip, err)
	}
	return nil
}
