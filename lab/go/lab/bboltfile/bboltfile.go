// Package bboltfile is what the project's reader of snapshots is held against: files that bbolt itself writes, and bbolt's own verdict, with
// what `etcdutl snapshot status` would say, on files that may be damaged in any way.
package bboltfile

import "fmt"

// Run is `lab bbolt check` and `lab bbolt write`.
func Run(arguments []string) error {
	if len(arguments) > 0 {
		switch arguments[0] {
		case "check":
			return check(arguments[1:])
		case judge:
			return judgeEach()
		case "write":
			return write(arguments[1:])
		}
	}
	return fmt.Errorf("got %q, expected check or write", arguments)
}
