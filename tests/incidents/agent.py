"""An agent that knows nothing of the project: it makes the calls that answers of the MCP server suggest."""

import ast
import asyncio
import json
import sys

from mcp import Client, StdioServerParameters, stdio_client

from tests.servers import ROOT

CALLS_MAX = 5
TIMEOUT_S = 120


def parse(suggestion):
    """Return name and arguments of a call as in `statement(fingerprint="0123"): why`."""
    call = ast.parse(suggestion.partition("): ")[0] + ")", mode="eval").body
    return call.func.id, {one.arg: ast.literal_eval(one.value) for one in call.keywords}


def investigate(environment, *wanted):
    """Make the first suggested call that is not made yet, until all wanted words are found.

    Return name, arguments and answer of each call.
    """
    parameters = StdioServerParameters(
        command=sys.executable, args=["manage.py", "sqllogs", "mcp"], cwd=ROOT, env=environment
    )

    async def talk():
        made = []
        async with Client(stdio_client(parameters)) as client:
            call = ("findings", {})  # as the server's instructions say
            assert "Begin with `findings`" in client.instructions
            while len(made) < CALLS_MAX:
                answer = json.loads((await client.call_tool(*call)).content[0].text)
                made.append((*call, answer))
                known = [(name, arguments) for name, arguments, _ in made]
                following = [one for one in map(parse, answer["next"]) if one not in known]
                text = "".join(json.dumps(answer, ensure_ascii=False) for *_, answer in made)
                if all(json.dumps(word)[1:-1] in text for word in wanted):
                    return made
                if not following:
                    break
                call = following[0]
        raise AssertionError(f"Not found within {len(made)} calls: {made}")

    return asyncio.run(asyncio.wait_for(talk(), TIMEOUT_S))
