package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"millrace/tests/services"
)

// brokerCommand is what this program calls itself with to be the broker.
const brokerCommand = "broker"

// serveBroker is an embedded Kafka that acknowledges records and keeps none.
func serveBroker(ctx context.Context, port int) error {
	cluster, err := kfake.NewCluster(kfake.Ports(port), kfake.NumBrokers(1), kfake.DefaultNumPartitions(6), kfake.BlackholeProduce(),
		// It does not fake this setting, but it does what the setting asks for.
		kfake.BrokerConfigs(map[string]string{"transaction.partition.verification.enable": "true"}))
	if err != nil {
		return fmt.Errorf("start the embedded Kafka: %w", err)
	}
	defer cluster.Close()
	<-ctx.Done()
	return nil
}

// startBroker runs serveBroker in a process of its own, so that its CPU is not
// the connector's, and returns its address.
func startBroker(ctx context.Context) (address string, stop func(), err error) {
	port, release, err := services.ReservePort()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.Command(os.Args[0], brokerCommand, "-port", strconv.Itoa(port))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		release()
		return "", nil, fmt.Errorf("start the broker's process: %w", err)
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		release()
	}
	address = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	if err := answers(ctx, address); err != nil {
		stop()
		return "", nil, err
	}
	return address, stop, nil
}

// answers waits until something listens.
func answers(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for the broker at %s: %w", address, err)
		}
	}
}
