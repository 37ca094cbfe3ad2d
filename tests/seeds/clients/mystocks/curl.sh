curl -N -H "Accept: text/event-stream" \
    http://localhost:8000/api/v1/sse/training
curl -N -H "Accept: text/event-stream" http://localhost:8000/api/v1/sse/backtest?client_id=curl-1
curl -N -H "Accept: text/event-stream" http://localhost:8000/api/v1/sse/alerts
curl http://localhost:8000/api/v1/sse/status
