// Before a restore. The collections stay, and with them their spreading over the shards. users.js has logged in.
const restored = db.getSiblingDB(databaseName);
for (const { name } of restored.getCollectionInfos({ type: "collection" })) restored[name].deleteMany({});
