package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"github.com/hamba/avro/v2"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	headBytes  = 10 // a marker of two bytes, and the fingerprint of the schema
	timeLayout = "2006-01-02T15:04:05.000000Z"
)

// progress has the fields of TrainingProgress that clients get.
type progress struct {
	TaskID      string             `avro:"task_id"`
	Progress    float64            `avro:"progress"`
	Status      string             `avro:"status"`
	Message     string             `avro:"message"`
	Metrics     map[string]float64 `avro:"metrics"`
	MetricsJSON *string            `avro:"metrics_json"`
}

// renderer renders records of TrainingProgress as events, as the edge's training channel does.
type renderer struct {
	schemas map[string]avro.Schema // by the first bytes of a value
}

// newRenderer reads the versions of the schema from a folder.
func newRenderer(folder string) (*renderer, error) {
	paths, err := filepath.Glob(filepath.Join(folder, "*.avsc"))
	if err != nil || len(paths) == 0 {
		return nil, fmt.Errorf("%s has no schemas", folder)
	}
	found := &renderer{schemas: map[string]avro.Schema{}}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		text, err = withoutLogicalTypes(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		// Each version defines the same names anew, so each gets a cache of its own.
		schema, err := avro.ParseBytesWithCache(text, "", &avro.SchemaCache{})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		fingerprint, err := schema.FingerprintUsing(avro.CRC64AvroLE)
		if err != nil {
			return nil, err
		}
		found.schemas["\xc3\x01"+string(fingerprint)] = schema
	}
	return found, nil
}

// withoutLogicalTypes removes what Avro's canonical form leaves out, and this library does not, so
// that fingerprints are Avro's.
func withoutLogicalTypes(text []byte) ([]byte, error) {
	var schema any
	if err := json.Unmarshal(text, &schema); err != nil {
		return nil, err
	}
	removeLogicalTypes(schema)
	return json.Marshal(schema)
}

func removeLogicalTypes(schema any) {
	switch part := schema.(type) {
	case map[string]any:
		delete(part, "logicalType")
		for _, value := range part {
			removeLogicalTypes(value)
		}
	case []any:
		for _, value := range part {
			removeLogicalTypes(value)
		}
	}
}

// append renders a record, and appends it to bytes.
func (r *renderer) append(to []byte, record *kgo.Record) ([]byte, error) {
	if len(record.Value) < headBytes {
		return to, errors.New("the value is too short for Avro's single-object encoding")
	}
	schema, known := r.schemas[string(record.Value[:headBytes])]
	if !known {
		return to, errors.New("the value's schema is none of TrainingProgress")
	}
	var event progress
	if err := avro.Unmarshal(schema, record.Value[headBytes:], &event); err != nil {
		return to, err
	}
	to = append(to, "event: training_progress\ndata: {\"event\":\"training_progress\",\"data\":{\"task_id\":"...)
	to = appendText(to, event.TaskID)
	to = append(to, `,"progress":`...)
	to = appendNumber(to, event.Progress)
	to = append(to, `,"status":`...)
	to = appendText(to, event.Status)
	to = append(to, `,"message":`...)
	to = appendText(to, event.Message)
	to = append(to, `,"metrics":`...)
	if event.MetricsJSON != nil {
		to = append(to, *event.MetricsJSON...)
	} else {
		to = appendMetrics(to, event.Metrics)
	}
	to = append(to, `},"timestamp":"`...)
	to = record.Timestamp.UTC().AppendFormat(to, timeLayout)
	to = append(to, "\"}\nid: "...)
	to = strconv.AppendInt(to, int64(record.Partition), 10)
	to = append(to, ':')
	to = strconv.AppendInt(to, record.Offset, 10)
	return append(to, "\n\n"...), nil
}

func appendMetrics(to []byte, metrics map[string]float64) []byte {
	to = append(to, '{')
	separator := ""
	for name, value := range metrics {
		to = append(to, separator...)
		to = appendText(to, name)
		to = append(to, ':')
		to = appendNumber(to, value)
		separator = ","
	}
	return append(to, '}')
}

func appendNumber(to []byte, number float64) []byte {
	if math.IsNaN(number) || math.IsInf(number, 0) {
		return append(to, "null"...)
	}
	to = strconv.AppendFloat(to, number, 'f', -1, 64)
	if number == math.Trunc(number) {
		to = append(to, ".0"...)
	}
	return to
}

func appendText(to []byte, text string) []byte {
	for i := 0; i < len(text); i++ {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(text) // a string is always JSON
			return append(to, quoted...)
		}
	}
	to = append(to, '"')
	to = append(to, text...)
	return append(to, '"')
}
