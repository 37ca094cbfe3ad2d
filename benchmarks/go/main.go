// Serves a topic of training events as server-sent events, as well as Go can: one consumer, each
// event rendered once, writes joined by load, routing by key, and the newest events in memory for
// clients that return. It has no cursors over several partitions, gaps, filters, metrics or limits.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n" +
		"X-Accel-Buffering: no\r\nConnection: close\r\n\r\nevent: connected\ndata: {}\n\n"
	pingEvery = 30 * time.Second
)

func main() {
	servers := flag.String("servers", "", "Kafka's bootstrap servers")
	topic := flag.String("topic", "", "the topic")
	partitions := flag.Int("partitions", 1, "its partitions")
	port := flag.Int("port", 0, "the port to serve at")
	schemas := flag.String("schemas", "schemas/avro/TrainingProgress", "the folder of the schema's versions")
	kept := flag.Int("kept", 250_000, "the events in memory")
	flag.Parse()

	frames, err := newRenderer(*schemas)
	if err != nil {
		log.Fatal(err)
	}
	h := newHub(runtime.GOMAXPROCS(0), *kept)
	for _, s := range h.shards {
		go s.run()
		go func() {
			for range time.Tick(pingEvery) {
				s.ping()
			}
		}()
	}
	go follow(h, frames, strings.Split(*servers, ","), *topic, *partitions)
	http.HandleFunc("GET /api/v1/sse/training", h.serve)
	log.Fatal(http.ListenAndServe(net.JoinHostPort("127.0.0.1", strconv.Itoa(*port)), nil))
}

// follow publishes all events of a topic.
func follow(h *hub, frames *renderer, servers []string, topic string, partitions int) {
	offsets := map[int32]kgo.Offset{}
	for partition := range partitions {
		offsets[int32(partition)] = kgo.NewOffset().AtStart()
	}
	kafka, err := kgo.NewClient(
		kgo.SeedBrokers(servers...),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: offsets}),
	)
	if err != nil {
		log.Fatal(err)
	}
	for {
		fetches := kafka.PollFetches(context.Background())
		fetches.EachError(func(_ string, partition int32, err error) {
			log.Printf("partition %d: %v", partition, err)
		})
		count := fetches.NumRecords()
		if count == 0 {
			continue
		}
		b := &block{ends: make([]int, 0, count), keys: make([]string, 0, count)}
		b.data = make([]byte, 0, count*320)
		in, at := make([]int32, 0, count), make([]int64, 0, count)
		fetches.EachRecord(func(record *kgo.Record) {
			data, err := frames.append(b.data, record)
			if err != nil {
				log.Printf("offset %d of partition %d: %v", record.Offset, record.Partition, err)
				return
			}
			b.data = data
			b.ends = append(b.ends, len(data))
			b.keys = append(b.keys, string(record.Key))
			in, at = append(in, record.Partition), append(at, record.Offset)
		})
		if len(b.ends) > 0 {
			h.publish(b, in, at)
		}
	}
}

var opened atomic.Uint64

// serve takes the connection over from the HTTP server, whose goroutine and buffers are freed.
func (h *hub) serve(w http.ResponseWriter, r *http.Request) {
	partition, offset, resumes := parseID(r.Header.Get("Last-Event-ID"))
	key := r.URL.Query().Get("task_id")
	taken, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	conn, isTCP := taken.(*net.TCPConn)
	if !isTCP {
		_ = taken.Close()
		return
	}
	c, err := newClient(conn, key, h.shards[opened.Add(1)%uint64(len(h.shards))])
	if err != nil {
		_ = conn.Close()
		return
	}
	missed := h.subscribe(c, resumes, partition, offset)
	// A client begins as one that drains, so live events wait behind what is written here.
	buffers := net.Buffers(append([][]byte{[]byte(head)}, missed...))
	if _, err := buffers.WriteTo(conn); err != nil {
		c.fail()
		return
	}
	c.drain()
}

// parseID reads an id, "PARTITION:OFFSET".
func parseID(id string) (partition int32, offset int64, valid bool) {
	before, after, found := strings.Cut(id, ":")
	if !found {
		return 0, 0, false
	}
	number, err := strconv.ParseInt(before, 10, 32)
	if err != nil {
		return 0, 0, false
	}
	offset, err = strconv.ParseInt(after, 10, 64)
	return int32(number), offset, err == nil
}
