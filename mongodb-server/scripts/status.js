// users.js has logged in.
printjson(db.hello().msg === "isdbgrid" ? db.adminCommand({ listShards: 1 }).shards : rs.status().members);
