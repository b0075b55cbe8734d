"""Websockets: each with a task while it talks (`websocket.py`), all with one task while they wait (`parking.py`)."""
