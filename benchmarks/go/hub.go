package main

import (
	"sort"
	"sync"
)

// block is the events of one read from Kafka, rendered one after the other.
type block struct {
	first uint64 // the number of its first event
	data  []byte
	ends  []int    // where each event ends in data
	keys  []string // the key of each event
}

// from returns the events from a number on.
func (b *block) from(number uint64) []byte {
	if number <= b.first {
		return b.data
	}
	return b.data[b.ends[number-b.first-1]:]
}

func (b *block) end() uint64 { return b.first + uint64(len(b.ends)) }

// event returns an event by its place in the block.
func (b *block) event(at int) []byte {
	start := 0
	if at > 0 {
		start = b.ends[at-1]
	}
	return b.data[start:b.ends[at]]
}

// place is the number that an event has at its offset.
type place struct {
	offset int64
	number uint64
}

// hub keeps the newest events, and gives new ones to the shards of clients.
type hub struct {
	shards []*shard
	kept   int // events

	mu     sync.Mutex
	next   uint64 // the number of the next event
	blocks []*block
	places map[int32][]place // by partition, in order
}

func newHub(shards, kept int) *hub {
	h := &hub{kept: kept, places: map[int32][]place{}}
	for range shards {
		h.shards = append(h.shards, newShard())
	}
	return h
}

// publish keeps a block, whose events have these partitions and offsets, and gives it to the shards.
func (h *hub) publish(b *block, partitions []int32, offsets []int64) {
	h.mu.Lock()
	b.first = h.next
	h.next = b.end()
	h.blocks = append(h.blocks, b)
	for i, partition := range partitions {
		h.places[partition] = append(h.places[partition], place{offsets[i], b.first + uint64(i)})
	}
	for len(h.blocks) > 1 && h.blocks[1].first+uint64(h.kept) <= h.next {
		h.blocks[0] = nil
		h.blocks = h.blocks[1:]
	}
	for partition, places := range h.places {
		if excess := len(places) - h.kept; excess > h.kept {
			h.places[partition] = append([]place(nil), places[excess:]...)
		}
	}
	h.mu.Unlock()
	for _, s := range h.shards {
		s.blocks <- b
	}
}

// subscribe registers a client, and returns what it has missed since an event.
func (h *hub) subscribe(c *client, resumes bool, partition int32, offset int64) [][]byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	c.since = h.next
	var missed [][]byte
	if resumes {
		missed = h.missed(c.key, h.after(partition, offset))
	}
	// Blocks that a shard has not delivered yet are older than the client's `since`.
	c.shard.add(c)
	return missed
}

// after returns the number of the event after one that a client has.
func (h *hub) after(partition int32, offset int64) uint64 {
	places := h.places[partition]
	at := sort.Search(len(places), func(i int) bool { return places[i].offset > offset })
	if at == 0 {
		return h.next // the event is unknown, so nothing is known to be missed
	}
	return places[at-1].number + 1
}

func (h *hub) missed(key string, number uint64) [][]byte {
	start := sort.Search(len(h.blocks), func(i int) bool { return h.blocks[i].end() > number })
	var found [][]byte
	for _, b := range h.blocks[start:] {
		if key == "" {
			found = append(found, b.from(number))
			continue
		}
		for i, its := range b.keys {
			if its == key && b.first+uint64(i) >= number {
				found = append(found, b.event(i))
			}
		}
	}
	return found
}

// shard delivers events to some of the clients, in one goroutine.
type shard struct {
	blocks chan *block

	mu       sync.Mutex
	everyone map[*client]struct{}            // clients without a key
	byKey    map[string]map[*client]struct{} // the others
}

const queuedBlocks = 256

func newShard() *shard {
	return &shard{
		blocks:   make(chan *block, queuedBlocks),
		everyone: map[*client]struct{}{},
		byKey:    map[string]map[*client]struct{}{},
	}
}

func (s *shard) add(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.key == "" {
		s.everyone[c] = struct{}{}
		return
	}
	if s.byKey[c.key] == nil {
		s.byKey[c.key] = map[*client]struct{}{}
	}
	s.byKey[c.key][c] = struct{}{}
}

func (s *shard) remove(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.everyone, c)
	if delete(s.byKey[c.key], c); len(s.byKey[c.key]) == 0 {
		delete(s.byKey, c.key)
	}
}

// run delivers blocks until the channel is closed. Blocks that wait are joined, so that each client
// gets them by one write: more load makes writes larger, not more frequent.
func (s *shard) run() {
	for b := range s.blocks {
		waiting := []*block{b}
		for more := len(s.blocks); more > 0; more-- {
			waiting = append(waiting, <-s.blocks)
		}
		s.deliver(waiting)
	}
}

func (s *shard) deliver(blocks []*block) {
	s.mu.Lock()
	var gone []*client
	if len(s.everyone) > 0 {
		joined := joinedFrom(blocks, 0)
		for c := range s.everyone {
			out := joined
			if c.since > blocks[0].first {
				out = joinedFrom(blocks, c.since)
			}
			if !c.send(out) {
				gone = append(gone, c)
			}
		}
	}
	if len(s.byKey) > 0 {
		gone = append(gone, s.deliverByKey(blocks)...)
	}
	s.mu.Unlock()
	for _, c := range gone {
		s.remove(c)
		c.close()
	}
}

func (s *shard) deliverByKey(blocks []*block) (gone []*client) {
	var touched []*client
	for _, b := range blocks {
		for i, key := range b.keys {
			for c := range s.byKey[key] {
				if b.first+uint64(i) < c.since {
					continue
				}
				if len(c.gathered) == 0 {
					touched = append(touched, c)
				}
				c.gathered = append(c.gathered, b.event(i))
			}
		}
	}
	for _, c := range touched {
		out := c.gathered[0]
		if len(c.gathered) > 1 {
			out = nil
			for _, event := range c.gathered {
				out = append(out, event...)
			}
		}
		clear(c.gathered)
		c.gathered = c.gathered[:0]
		if !c.send(out) {
			gone = append(gone, c)
		}
	}
	return gone
}

// ping sends a comment to all clients, which shows those that are gone.
func (s *shard) ping() {
	s.mu.Lock()
	var gone []*client
	for c := range s.everyone {
		if !c.send(pingBytes) {
			gone = append(gone, c)
		}
	}
	for _, clients := range s.byKey {
		for c := range clients {
			if !c.send(pingBytes) {
				gone = append(gone, c)
			}
		}
	}
	s.mu.Unlock()
	for _, c := range gone {
		s.remove(c)
		c.close()
	}
}

var pingBytes = []byte(": ping\n\n")

// joinedFrom returns the events of consecutive blocks from a number on.
func joinedFrom(blocks []*block, number uint64) []byte {
	if len(blocks) == 1 {
		if number >= blocks[0].end() {
			return nil
		}
		return blocks[0].from(number)
	}
	var out []byte
	for _, b := range blocks {
		if number < b.end() {
			out = append(out, b.from(number)...)
		}
	}
	return out
}
