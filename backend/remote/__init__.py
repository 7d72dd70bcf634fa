"""Run and measure models on other machines: a server for TVM's RPC, its client, and programs copied by ssh."""
