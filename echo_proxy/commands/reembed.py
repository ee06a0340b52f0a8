"""How are stored examples embedded anew, from a shell?"""

import argparse
import asyncio

from echo_proxy.commands.arguments import RAW, Commands, add_policy, policies


def add(commands: Commands) -> None:
    """`echo-proxy reembed`."""
    parser = commands.add_parser(
        "reembed",
        help="embed all examples of a policy again, after the embedding model changed",
        formatter_class=RAW,
        description="Embeds all examples with the model that the settings name now (ECHO_EMBEDDER, "
        "ECHO_EMBEDDER_DIMENSIONS).\nIn Redis, proxies with the old model serve on meanwhile, and those with the new "
        "one can start when it\nis finished. With SQLite, stop every proxy first; none can start until it is "
        "finished. It may be\ninterrupted at any point: nothing is lost, and the same command again goes on there.",
        epilog="examples:\n  echo-proxy reembed --policy policies/default.yaml\n"
        "  ECHO_EMBEDDER=openai/text-embedding-3-small ECHO_EMBEDDER_DIMENSIONS=1536 echo-proxy reembed "
        "--policy policies/default.yaml\n  echo-proxy reembed --finish --policy policies/default.yaml",
    )
    add_policy(parser)
    parser.add_argument(
        "--finish",
        action="store_true",
        help="drop the vectors and indexes of all other models; when every proxy has the new one",
    )
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> int:
    from echo_proxy.reembed import reembed_all

    asyncio.run(reembed_all(policies(options), is_last=options.finish))
    return 0
