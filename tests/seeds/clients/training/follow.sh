curl -N -H "Accept: text/event-stream" \
    "http://localhost:8000/trainmodel/stream/{task_id}"
