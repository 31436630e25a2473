// Package controller stands in for kube-controller-manager and kube-scheduler: processes of those names, which end when they are asked to
// and do nothing else.
package controller

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"
)

// Run needs a --kubeconfig that can be read, takes every other flag, and waits for SIGTERM or SIGINT.
func Run(arguments []string) error {
	kubeconfig := ""
	for _, argument := range arguments {
		if value, found := strings.CutPrefix(argument, "--kubeconfig="); found {
			kubeconfig = value
		}
	}
	if _, err := os.ReadFile(kubeconfig); err != nil {
		return fmt.Errorf("--kubeconfig: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	fmt.Printf("started with %s\n", kubeconfig)
	<-ctx.Done()
	return nil
}
