-- The fleet's limiter for one bucket of API calls, in one atomic step: GCRA with burst 1, a gate, a canary, a breaker.
--
-- EVALSHA <sha> 2 <state> <counts> <command> <ceiling> [argument ...]
--
--   command     arguments                               does
--   acquire     horizon, lease                          reserves the next slot, or says when to ask again
--   check       epoch                                   says whether a permit still holds
--   give_back   epoch, slot                             takes the newest slot, or the canary's duty, back
--   close_gate  length, reason, rejected 0|1            no slot before now + length; never opens it earlier
--   settle      epoch, ok 0|1, immediately 0|1, reason  what became of a call: opens after a canary, or closes
--   peek        -                                       changes nothing
--
-- ceiling is the highest rate, in permits per second; horizon, lease, length and all moments are microseconds on the
-- server's clock. Every answer begins with {word, now, wait, slot, epoch, gate, failures, reason}, where word is
--   slot | canary            granted; wait: until the slot
--   later | gate | probing   not granted; wait: until a slot is in reach, the gate has passed, the canary may be back
--   open | void              what check found
--   done                     all else
-- peek adds {rate, probing, rejected in 60 s, granted in 60 s, granted in 10 s}.
--
-- key                                                type   meaning
-- retroscribe:limit:{<client>}:<bucket>              hash   the state, gone after a day idle:
--   tat        us, moment    theoretical arrival time: the earliest slot that is free
--   newest     us, moment    the slot reserved last, 0 when it can't be given back
--   undo       us, moment    tat before `newest` was reserved
--   rate       permits/s     what is handed out now; at most the ceiling
--   gate       us, moment    no slot before it
--   reason     text          why the gate was closed last
--   epoch      number        goes up with every change of the gate, which voids all slots; begins at the server's time,
--                            so that permits from before a wipe are void too
--   probing    0 | 1         1: the gate was closed, and no call has succeeded since
--   canary     us, moment    slot of the call that goes first, 0 when there is none
--   failures   number        failed calls in a row
--   trips      number        closings by the breaker in a row: they last 1, 2, 4 ... 300 s
-- retroscribe:limit:{<client>}:<bucket>:counts       hash   figures for people, gone after two minutes idle:
--   <granted|rejected>:<second modulo 128>   "second number"   slots in that second of Unix time; 429s in it

local SECOND = 1000000
local HORIZON = SECOND -- how far ahead slots may be reserved at most
local LAG = 10000 -- so late a slot may be taken without moving those after it: see spacing()
local RAMP_SECONDS = 5 -- from half the ceiling, where a new state begins, up to it
local FAILURES = 5 -- in a row, then the breaker closes the gate
local LONGEST_TRIP = 300
local IDLE_SECONDS = 86400
local NUMBERS = { 'tat', 'newest', 'undo', 'rate', 'gate', 'epoch', 'probing', 'canary', 'failures', 'trips' }

local state_key, counts_key = KEYS[1], KEYS[2]
local command, ceiling = ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = tonumber(time[1]) * SECOND + tonumber(time[2])

-- Whole microseconds, rounded up: never faster than the rate. With a lag of 10 ms the slots of any second stay within
-- the published limit, because a ceiling of 0.99 of it leaves just that much of a second free.
local function spacing(rate)
  local interval = math.ceil(SECOND / rate)
  return interval, math.min(LAG, math.floor(interval / 2))
end

local function load_state()
  local values = redis.call('HMGET', state_key, 'reason', unpack(NUMBERS))
  local state = { reason = values[1] or '' }
  for position, name in ipairs(NUMBERS) do
    state[name] = tonumber(values[position + 1]) or 0
  end
  if state.epoch == 0 then
    state.epoch, state.tat, state.rate = now, now, ceiling / 2
  end
  state.rate = math.min(state.rate, ceiling)
  return state
end

local state = load_state()
local interval, lag = spacing(state.rate)

local function save()
  local values = { 'reason', state.reason }
  for _, name in ipairs(NUMBERS) do
    values[#values + 1] = name
    values[#values + 1] = string.format('%.17g', state[name])
  end
  redis.call('HSET', state_key, unpack(values))
  redis.call('EXPIRE', state_key, IDLE_SECONDS + math.ceil(math.max(0, state.gate - now) / SECOND))
end

local function counted(what, second)
  local value = redis.call('HGET', counts_key, what .. ':' .. second % 128) or ''
  local of, number = string.match(value, '^(%d+) (%d+)$')
  return tonumber(of) == second and tonumber(number) or 0
end

local function count(what, moment, by)
  local second = math.floor(moment / SECOND)
  local number = math.max(0, counted(what, second) + by)
  redis.call('HSET', counts_key, what .. ':' .. second % 128, string.format('%d %d', second, number))
  redis.call('EXPIRE', counts_key, 120)
end

local function total(what, seconds)
  local sum, present = 0, math.floor(now / SECOND)
  for second = present - seconds, present - 1 do
    sum = sum + counted(what, second)
  end
  return sum
end

local function answer(word, wait, slot)
  return { word, now, wait or 0, slot or 0, state.epoch, state.gate, state.failures, state.reason }
end

local function shut(length, reason)
  state.gate, state.reason = now + length, reason
  state.epoch = state.epoch + 1
  state.probing, state.canary, state.newest = 1, 0, 0
  -- The slots that were reserved ahead are void: all but those that have passed are free again.
  state.tat = math.min(state.tat, now + interval)
end

local commands = {}

function commands.acquire(horizon, lease)
  if state.gate > now then
    return answer('gate', state.gate - now)
  end
  if state.probing == 1 and state.canary + tonumber(lease) > now then
    -- Ask soon while the canary is young, and seldom when it hangs.
    return answer('probing', math.floor(math.min(math.max((now - state.canary) / 2, SECOND / 10), SECOND)))
  end
  if state.tat > now + HORIZON + 2 * interval then
    -- No slot is reserved so far ahead: the server's clock was set back. Don't wait for the old time to come again.
    state.tat = now + HORIZON
    save()
  end
  local due = math.max(state.tat, now - lag)
  if due > now + tonumber(horizon) then
    return answer('later', math.max(0, due - HORIZON - now))
  end
  local slot = math.max(due, now)
  if due == state.tat then -- work waits, so the rate may grow
    state.rate = math.min(ceiling, state.rate + ceiling / 2 / RAMP_SECONDS * interval / SECOND)
  end
  state.newest, state.undo, state.tat = slot, state.tat, due + interval
  if state.probing == 1 then
    state.canary = slot
  end
  count('granted', slot, 1)
  save()
  return answer(state.probing == 1 and 'canary' or 'slot', slot - now, slot)
end

function commands.check(epoch)
  return answer(tonumber(epoch) == state.epoch and state.gate <= now and 'open' or 'void')
end

function commands.give_back(epoch, slot)
  slot = tonumber(slot)
  if tonumber(epoch) == state.epoch then
    if slot == state.canary then
      state.canary = 0
    end
    if slot == state.newest then
      -- A microsecond later, so that no two permits have the same slot, and giving back twice takes nobody else's.
      state.newest, state.tat = 0, state.undo + 1
      count('granted', slot, -1)
    end
    save()
  end
  return answer('done')
end

function commands.close_gate(length, reason, rejected)
  if rejected == '1' then
    count('rejected', now, 1)
  end
  if now + tonumber(length) > state.gate then
    shut(tonumber(length), reason)
    save()
  end
  return answer('done')
end

-- A call whose permit is older than the last change of the gate says nothing about what came after it. While probing,
-- only canaries get permits of the present epoch.
function commands.settle(epoch, ok, immediately, reason)
  if tonumber(epoch) ~= state.epoch then
    return answer('done')
  end
  if ok == '1' then
    state.failures, state.trips, state.probing, state.canary = 0, 0, 0, 0
  else
    state.failures = state.failures + 1
    if state.probing == 1 or immediately == '1' or state.failures >= FAILURES then
      state.trips = state.trips + 1
      shut(math.min(2 ^ (state.trips - 1), LONGEST_TRIP) * SECOND, reason)
    end
  end
  save()
  return answer('done')
end

function commands.peek()
  local figures = answer('done')
  figures[#figures + 1] = string.format('%.17g', state.rate)
  figures[#figures + 1] = state.probing
  figures[#figures + 1] = total('rejected', 60) + counted('rejected', math.floor(now / SECOND))
  figures[#figures + 1] = total('granted', 60)
  figures[#figures + 1] = total('granted', 10)
  return figures
end

return commands[command](unpack(ARGV, 3))
