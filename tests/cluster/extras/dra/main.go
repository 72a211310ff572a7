// Command dra is a driver of Dynamic Resource Allocation for devices that do not exist: it offers COUNT of them on one
// node, and a container that gets one finds its name in a variable. Like the drivers of vendors it stands on
// Kubernetes's own kubeletplugin module, and hands devices over by files of the Container Device Interface.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	resourceapi "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/dynamic-resource-allocation/kubeletplugin"
	"k8s.io/dynamic-resource-allocation/resourceslice"
	"k8s.io/klog/v2"
)

type driver struct {
	name   string
	cdi    string
	refuse string
	stop   context.CancelFunc
}

type edits struct {
	Env []string `json:"env"`
}

type cdiDevice struct {
	Name  string `json:"name"`
	Edits edits  `json:"containerEdits"`
}

type cdiFile struct {
	Version string      `json:"cdiVersion"`
	Kind    string      `json:"kind"`
	Devices []cdiDevice `json:"devices"`
}

func (d *driver) kind() string { return d.name + "/gpu" }

func (d *driver) file(claim types.UID) string { return filepath.Join(d.cdi, d.name+"-"+string(claim)+".json") }

// PrepareResourceClaims writes one file for each claim. It fails while the file named by -refuse exists.
func (d *driver) PrepareResourceClaims(_ context.Context, claims []*resourceapi.ResourceClaim) (map[types.UID]kubeletplugin.PrepareResult, error) {
	if _, err := os.Stat(d.refuse); err == nil {
		return nil, errors.New("the device has fallen off the bus")
	}
	results := map[types.UID]kubeletplugin.PrepareResult{}
	for _, claim := range claims {
		result := kubeletplugin.PrepareResult{}
		written := cdiFile{Version: "0.6.0", Kind: d.kind()}
		for _, given := range claim.Status.Allocation.Devices.Results {
			if given.Driver != d.name {
				continue
			}
			name := string(claim.UID) + "-" + given.Device
			// each device sets a variable of its own: of one that several set, a container would see the last alone
			variable := fmt.Sprintf("FAKE_DEVICE_%s=%s", given.Device[len("fake-"):], given.Device)
			written.Devices = append(written.Devices, cdiDevice{Name: name, Edits: edits{Env: []string{variable}}})
			result.Devices = append(result.Devices, kubeletplugin.Device{
				Requests:     []string{given.Request},
				PoolName:     given.Pool,
				DeviceName:   given.Device,
				CDIDeviceIDs: []string{d.kind() + "=" + name},
			})
		}
		content, err := json.Marshal(written)
		if err == nil {
			err = os.WriteFile(d.file(claim.UID), content, 0o644)
		}
		result.Err = err
		results[claim.UID] = result
	}
	return results, nil
}

// UnprepareResourceClaims removes what was written.
func (d *driver) UnprepareResourceClaims(_ context.Context, claims []kubeletplugin.NamespacedObject) (map[types.UID]error, error) {
	results := map[types.UID]error{}
	for _, claim := range claims {
		err := os.Remove(d.file(claim.UID))
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		results[claim.UID] = err
	}
	return results, nil
}

// HandleError ends the driver where repeating does not help.
func (d *driver) HandleError(ctx context.Context, err error, message string) {
	klog.FromContext(ctx).Error(err, message)
	if !errors.Is(err, kubeletplugin.ErrRecoverable) {
		d.stop()
	}
}

// WatchHealthStatus says nothing.
func (d *driver) WatchHealthStatus(context.Context, chan<- kubeletplugin.DeviceHealthReport) error {
	return kubeletplugin.ErrHealthNotSupported
}

func devices(count int, memory string) []resourceapi.Device {
	found := make([]resourceapi.Device, count)
	for i := range found {
		found[i] = resourceapi.Device{
			Name:     fmt.Sprintf("fake-%d", i),
			Capacity: map[resourceapi.QualifiedName]resourceapi.DeviceCapacity{"memory": {Value: resource.MustParse(memory)}},
		}
	}
	return found
}

func run() error {
	name := flag.String("name", "gpu.example.com", "the driver's name")
	node := flag.String("node", "", "the node's name")
	count := flag.Int("count", 1, "how many devices")
	memory := flag.String("memory", "24Gi", "memory of each device, as the driver tells it")
	kubeconfig := flag.String("kubeconfig", "", "access to the API server")
	cdi := flag.String("cdi", "/var/run/cdi", "where the container runtime looks for files of the Container Device Interface")
	refuse := flag.String("refuse", "/var/run/dra-refuses", "a file that makes each claim fail while it exists")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	own := filepath.Join(kubeletplugin.KubeletPluginsDir, *name)
	for _, folder := range []string{*cdi, own, kubeletplugin.KubeletRegistryDir} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	helper, err := kubeletplugin.Start(ctx, &driver{name: *name, cdi: *cdi, refuse: *refuse, stop: stop},
		kubeletplugin.DriverName(*name), kubeletplugin.NodeName(*node), kubeletplugin.KubeClient(client),
		kubeletplugin.HealthService(false))
	if err != nil {
		return err
	}
	defer helper.Stop()
	pool := resourceslice.Pool{Slices: []resourceslice.Slice{{Devices: devices(*count, *memory)}}}
	if err := helper.PublishResources(ctx, resourceslice.DriverResources{Pools: map[string]resourceslice.Pool{*node: pool}}); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
