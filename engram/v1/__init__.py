"""The protocol of the gRPC services, `engram.v1`: `.proto` files, and what protoc makes of them.

    types.proto      what requests and answers are made of
    memories.proto   MemoryService: everything inside one memory space
    spaces.proto     SpaceService: memory spaces themselves

`make proto` writes the `*_pb2*` files anew; nothing in them is written by hand. A client needs no
more than these:

    import grpc
    from engram.v1 import memories_pb2, memories_pb2_grpc

    with grpc.insecure_channel("127.0.0.1:7433") as channel:
        memories = memories_pb2_grpc.MemoryServiceStub(channel)
"""
