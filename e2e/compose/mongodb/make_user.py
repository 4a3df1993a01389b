"""Does in the stand-in what mongodb-server/scripts/users.js does in MongoDB: the services' user, if it is not there."""

from pathlib import Path
from typing import Any

import pymongo

client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient("mongodb://single:27017/?directConnection=true")
admin = client["admin"]
if not admin.command("usersInfo", "enlight")["users"]:
    roles = [{"role": "readWrite", "db": "enlightai"}]
    admin.command("createUser", "enlight", pwd=Path("/run/secrets/service_password").read_text(), roles=roles)
