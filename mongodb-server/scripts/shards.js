// Adds the shards and spreads main-api's collections over them; what is done already is left. users.js has logged in.
const known = db.adminCommand({ listShards: 1 }).shards.map((shard) => shard._id);
for (const name of ["shard1", "shard2", "shard3"]) {
  if (known.includes(name)) continue;
  sh.addShard(`${name}/` + [1, 2, 3].map((replica) => `${name}-replica${replica}:27017`).join(","));
}
sh.enableSharding(databaseName);

// By tenant where something is unique within a tenant: a shard can only see that of what it has itself.
const keys = {
  jobs: "tenant",
  job_histories: "_id",
  models: "tenant",
  keys: "_id",
  usage: "_id",
  traffic: "_id",
  webhook_secrets: "_id",
  webhook_deliveries: "_id",
  link_secrets: "_id",
  pictures: "_id",
  a1111_options: "_id",
  uploaded_files: "_id",
};
for (const [collection, field] of Object.entries(keys)) {
  const name = `${databaseName}.${collection}`;
  const isSharded = db.getSiblingDB("config").collections.countDocuments({ _id: name, key: { [field]: "hashed" } });
  if (!isSharded) sh.shardCollection(name, { [field]: "hashed" });
}
