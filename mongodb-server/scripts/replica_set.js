// Makes a replica set, run on its first node, if there is none yet. `replicaSet` = {name, hosts, configsvr} is set before.
// Only `hello` is asked, which needs no user: until there is one, MongoDB lets a client of its own machine in for this.
const isMade = () => db.hello().setName === replicaSet.name;
if (isMade()) {
  print(`${replicaSet.name}: is there`);
} else {
  const members = replicaSet.hosts.map((host, number) => ({ _id: number, host: host }));
  const config = { _id: replicaSet.name, members: members };
  if (replicaSet.configsvr) config.configsvr = true;
  rs.initiate(config);
  print(`${replicaSet.name}: made`);
}
for (let tries = 0; !db.hello().primary; tries++) {
  if (tries === 120) throw new Error(`${replicaSet.name}: no primary within 60 s`);
  sleep(500);
}
