"""Control stream between operator, agents and slots: message types and a WebSocket session for each end."""
