// Command deviceplugin is a kubelet device plugin for devices that do not exist: it advertises COUNT healthy devices
// of one resource, so that pods that ask for GPUs can be scheduled on a machine without any. Like the plugins of GPU
// vendors it may bind host folders into the containers that get a device.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const pollInterval = 250 * time.Millisecond

type plugin struct {
	api.UnimplementedDevicePluginServer
	count  int
	mounts []*api.Mount
}

func (p *plugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

func (p *plugin) ListAndWatch(_ *api.Empty, stream api.DevicePlugin_ListAndWatchServer) error {
	devices := make([]*api.Device, p.count)
	for i := range devices {
		devices[i] = &api.Device{ID: fmt.Sprintf("fake-%d", i), Health: api.Healthy}
	}
	if err := stream.Send(&api.ListAndWatchResponse{Devices: devices}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func (p *plugin) Allocate(_ context.Context, request *api.AllocateRequest) (*api.AllocateResponse, error) {
	response := &api.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		response.ContainerResponses = append(response.ContainerResponses, &api.ContainerAllocateResponse{
			Envs:   map[string]string{"FAKE_VISIBLE_DEVICES": strings.Join(container.DevicesIds, ",")},
			Mounts: p.mounts,
		})
	}
	return response, nil
}

// serveUntilGone serves on the socket, registers with the kubelet and returns when the socket has vanished: a kubelet
// empties its plugin folder when it starts, and then every plugin has to register again.
func (p *plugin) serveUntilGone(directory, resource string) error {
	name := strings.ReplaceAll(resource, "/", "_") + ".sock"
	socket := filepath.Join(directory, name)
	if err := os.RemoveAll(socket); err != nil {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	defer server.Stop()
	api.RegisterDevicePluginServer(server, p)
	go server.Serve(listener) //nolint:errcheck // ends with Stop

	connection, err := grpc.NewClient("unix://"+filepath.Join(directory, "kubelet.sock"),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err = api.NewRegistrationClient(connection).Register(ctx, &api.RegisterRequest{
		Version: api.Version, Endpoint: name, ResourceName: resource, Options: &api.DevicePluginOptions{},
	})
	if err != nil {
		return err
	}
	log.Printf("registered %d of %s", p.count, resource)
	for {
		time.Sleep(pollInterval)
		if _, err := os.Stat(socket); err != nil {
			return err
		}
	}
}

func main() {
	directory := flag.String("directory", api.DevicePluginPath, "the kubelet's folder of device plugins")
	resource := flag.String("resource", "nvidia.com/gpu", "the extended resource to advertise")
	count := flag.Int("count", 8, "how many devices")
	mount := flag.String("mount", "", "HOST:CONTAINER[,...]: folders to bind read-only into the containers")
	flag.Parse()

	p := &plugin{count: *count}
	for _, pair := range strings.Split(*mount, ",") {
		if host, container, found := strings.Cut(pair, ":"); found {
			p.mounts = append(p.mounts, &api.Mount{HostPath: host, ContainerPath: container, ReadOnly: true})
		}
	}
	for {
		log.Printf("registering again: %v", p.serveUntilGone(*directory, *resource))
		time.Sleep(pollInterval)
	}
}
