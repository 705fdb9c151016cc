// Makes a data directory with an empty database that has the timescaledb extension.
// usage: node init.mjs '{"package": ..., "dataDirectory": ..., "database": ...}'
import { pathToFileURL } from 'node:url'

const options = JSON.parse(process.argv[2])
const { PGlite } = await import(pathToFileURL(`${options.package}/index.js`))
const { timescaledb } = await import(pathToFileURL(`${options.package}/timescaledb/index.js`))

const open = (database) =>
  PGlite.create({ dataDir: options.dataDirectory, database, extensions: { timescaledb } })

// The first boot runs with initdb's settings: only make the database, close, and open it again.
const first = await open('template1')
await first.exec(`create database "${options.database.replaceAll('"', '""')}"`)
await first.close()

const second = await open(options.database)
await second.exec('create extension timescaledb')
await second.exec('checkpoint')
await second.close()
