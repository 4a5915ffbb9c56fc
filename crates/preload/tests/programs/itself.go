// A program in Go that needs C, so that the dynamic loader loads it; its system calls are its own.
package main

import "C"

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

func seen() error {
	file, err := os.OpenFile("/dev/iommu", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	alloc := [3]uint32{12, 0, 0}
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, file.Fd(), 0x3b81, uintptr(unsafe.Pointer(&alloc)))
	if errno != 0 {
		return errno
	}
	return nil
}

func main() {
	var all sync.WaitGroup
	for i := 0; i < 8; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			if err := seen(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}()
	}
	all.Wait()
	fmt.Println("seen")
}
