"""A runtime client of sockets alone, in the place of AWS's: a hundred of them start in the time of a dozen of those.

Each invocation waits at the door that its event names until it is let in, then prints numbered lines.
"""

import json
import os
import socket
import time

LINES = 40


def answer(stream):
    """(headers, body) of the next response."""
    stream.readline()
    headers = {}
    while line := stream.readline().strip():
        name, _, value = line.partition(b":")
        headers[name.strip().lower()] = value.strip()
    return headers, stream.read(int(headers.get(b"content-length", 0)))


def main():
    host, _, port = os.environ["AWS_LAMBDA_RUNTIME_API"].partition(":")
    runtime = socket.create_connection((host, int(port)))
    stream = runtime.makefile("rb")
    path = b"/2018-06-01/runtime/invocation"
    while True:
        runtime.sendall(b"GET %s/next HTTP/1.1\r\nHost: runtime\r\n\r\n" % path)
        headers, event = answer(stream)
        request_id = headers[b"lambda-runtime-aws-request-id"]
        with socket.create_connection(("127.0.0.1", json.loads(event)["door"])) as door:
            door.recv(1)
        for number in range(LINES):
            # Now and then a line in two pieces, in turns on stdout and stderr.
            line = b"%s %d\n" % (request_id, number)
            cut = len(line) // 2 if number % 5 == 0 else len(line)
            descriptor = 1 + number % 2
            os.write(descriptor, line[:cut])
            if line[cut:]:
                time.sleep(0.0005)
                os.write(descriptor, line[cut:])
        body = b'"%s"' % request_id
        head = b"POST %s/%s/response HTTP/1.1\r\nHost: runtime\r\nContent-Length: %d\r\n\r\n"
        runtime.sendall(head % (path, request_id, len(body)) + body)
        answer(stream)


main()
