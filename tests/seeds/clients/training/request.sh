curl -X POST "http://localhost:8000/trainmodel/" -H "Content-Type: application/json" \
    -d '{"meter_id": "meter_test_001", "meter_type": "electricity"}'
