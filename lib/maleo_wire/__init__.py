"""The stream between operator, agent and slots: messages and a WebSocket session at each end."""
