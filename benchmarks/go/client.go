package main

import (
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	pendingBytesMax = 64 << 20
	writeTimeout    = 30 * time.Second
)

// client is one connection. Its shard writes to the socket without waiting; what the socket does not
// take is written by a goroutine, which the connection has only for as long as something is pending.
type client struct {
	key   string // "" for all events
	since uint64 // the number of the first event that is live for it
	shard *shard
	conn  net.Conn
	raw   syscall.RawConn

	gathered [][]byte // events of the delivery that is under way; its shard's

	mu           sync.Mutex
	pending      net.Buffers
	pendingBytes int
	draining     bool
	failed       bool

	write   func(fd uintptr) bool // kept, since a new closure would be an allocation a write
	out     []byte
	written int
	err     error
}

func newClient(conn *net.TCPConn, key string, s *shard) (*client, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &client{key: key, shard: s, conn: conn, raw: raw, draining: true}
	c.write = func(fd uintptr) bool {
		c.written, c.err = syscall.Write(int(fd), c.out)
		return true
	}
	return c, nil
}

// send writes bytes, or keeps them until the socket takes them; false if the connection is broken.
func (c *client) send(out []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed || len(out) == 0 {
		return !c.failed
	}
	if !c.draining {
		c.out = out
		if err := c.raw.Write(c.write); err != nil {
			return false
		}
		if c.err != nil {
			if c.err != syscall.EAGAIN && c.err != syscall.EINTR {
				return false
			}
			c.written = 0
		}
		if c.written == len(out) {
			return true
		}
		out = out[c.written:]
		c.draining = true
		go c.drain()
	}
	c.pending = append(c.pending, out)
	c.pendingBytes += len(out)
	return c.pendingBytes <= pendingBytesMax
}

// drain writes what is pending, and waits for the socket.
func (c *client) drain() {
	for {
		c.mu.Lock()
		pending := c.pending
		c.pending, c.pendingBytes = nil, 0
		if len(pending) == 0 || c.failed {
			c.draining = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		if err := c.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			c.fail()
			return
		}
		if _, err := pending.WriteTo(c.conn); err != nil {
			c.fail()
			return
		}
	}
}

func (c *client) fail() {
	c.mu.Lock()
	c.failed = true
	c.pending = nil
	c.mu.Unlock()
	c.shard.remove(c)
	c.close()
}

func (c *client) close() { _ = c.conn.Close() }
