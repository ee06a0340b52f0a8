"""What can be tried by hand while the proxy stays up?"""

import asyncio
import json
import signal

from rich.console import Console

from echo_proxy.demo.phases import Answer
from echo_proxy.demo.proxy import Connection


def curl_lines(connection: Connection, answer: Answer) -> str:
    """Shell lines that ask again what the answer was given to, explain, and give feedback."""
    message = json.dumps({"role": "user", "content": answer.ask.item.question})
    return f"""\
export ECHO_DEMO={connection.url} ECHO_DEMO_KEY={connection.key}

# ask; the headers say which arm answered and under which decision
curl -si $ECHO_DEMO/v1/chat/completions -H "Authorization: Bearer $ECHO_DEMO_KEY" -H "Content-Type: application/json" \\
  -d '{{"model": "{answer.phase.model_group}", "max_tokens": 64, "messages": [{message}]}}'

# why was it served like that?
curl -s $ECHO_DEMO/echo/decisions/{answer.decision_id} -H "Authorization: Bearer $ECHO_DEMO_KEY"

# what has been learned, and from which examples?
curl -s $ECHO_DEMO/echo/stats -H "Authorization: Bearer $ECHO_DEMO_KEY"
curl -s "$ECHO_DEMO/echo/examples?limit=5" -H "Authorization: Bearer $ECHO_DEMO_KEY"

# say what an answer was worth, 0 to 1
curl -s $ECHO_DEMO/echo/feedback -H "Authorization: Bearer $ECHO_DEMO_KEY" -H "Content-Type: application/json" \\
  -d '{{"decision_id": "{answer.decision_id}", "score": 1}}'
"""


async def stay(console: Console, connection: Connection, answer: Answer) -> None:
    """Print the lines and wait for Ctrl-C, which here is the normal end."""
    console.rule("The proxy stays up; Ctrl-C ends it", align="left")
    # Neither wrapped nor coloured, so that the lines can be copied.
    console.print(curl_lines(connection, answer), markup=False, highlight=False, soft_wrap=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, ended.set)
    await ended.wait()
