-- The fleet's limiter for one class of API calls, in one atomic step: GCRA with burst 1, a gate, a canary, a breaker,
-- and a rate that learns (learning.lua) and is shared by lanes and classes (lanes.lua); the three files are one script.
--
-- EVALSHA <sha> <keys> <pace> <counts> <gate> [<gate of each other class on the bucket>] <command> <limit> <share> ...
--
--   command     arguments                               does
--   acquire     horizon, lease, lane, class             reserves the next slot, or says when to ask again
--   check       epoch                                   says whether a permit still holds
--   give_back   epoch, slot                             takes the newest slot, or the canary's duty, back
--   close_gate  length, reason, rejected 0|1, epoch     no slot before now + length; never opens it earlier; a 429
--                                                       closes the gates of all classes on the bucket, and lowers the
--                                                       rate unless its permit is from before the last change of the
--                                                       gate (an epoch of '' is the present one)
--   settle      epoch, ok 0|1, immediately 0|1, reason  what became of a call: opens after a canary, or closes
--   observe     count, allowed, reset                   what the API said of its window: calls, and seconds left
--   set_limit   limit                                   from now on instead of the callers' limit; 0 ends that
--   peek        -                                       changes nothing
--
-- limit is the published one, in permits per second, and share what may be used of it: their product is the ceiling.
-- horizon, lease, length and all moments are microseconds on the server's clock. Every answer begins with
-- {word, now, wait, slot, epoch, gate, failures, reason}, where word is
--   slot | canary            granted; wait: until the slot
--   later | gate | probing   not granted; wait: until a slot is in reach, the gate has passed, the canary may be back
--   open | void              what check found
--   done                     all else
-- peek adds {rate, probing 0|1, rejected in 60 s, granted in 60 s, granted in 10 s, limit, mark, others or -1}.
--
-- A bucket is a published limit; a class of calls has one of its own or shares another's. The pace is the bucket's,
-- all else the class's: look-ups that work say nothing about submissions, and must not open the gate for them.
--
-- key                                                type   meaning
-- retroscribe:limit:{<client>}:<bucket>              hash   the pace, gone after a day idle; what is 0 is left out:
--   tat            us, moment   theoretical arrival time: the earliest slot that is free
--   newest         us, moment   the slot reserved last, 0 when it can't be given back
--   undo           us, moment   tat before `newest` was reserved
--   granted        number       slots reserved so far, less those that were given back or void
--   limit          permits/s    set at run time
--   rate           permits/s    what is handed out now, unless less is bound; at most the ceiling
--   mark           permits/s    what the API was found to let through; 0: it has not refused yet
--   rest           s            how long the mark is left alone before more is looked for
--   rest_until     us, moment   end of the present rest
--   looking        s            for so long the rate has been looking for more
--   stands_since   us, moment   last change of the mark, or the moment at which the rate came to the ceiling
--   restless_until us, moment   the limit is known to change: rests are short
--   cut_at         us, moment   the last 429 that the rate was cut for
--   resumed_at     us, moment   end of the gate that it closed
--   seen_at, seen_count, seen_reset, seen_sent
--                               what the API told, when, and our own calls until then: others are measured from here
--   others         calls/s      what others take of the window, as far as the API tells
--   bound          permits/s    what the window leaves us until it ends, at
--   bound_until    us, moment
--   last_sent      number       value of `granted` at which the window is used up
--   wants:<lane>:<class>  us, moment  until then somebody of these, who was refused, is expected to ask again
--   turn:<lane or class>  us, moment  from then on it has had less than its sure share
-- retroscribe:limit:{<client>}:<class>:gate          hash   gate and breaker, gone a day after their last change:
--   gate       us, moment    no slot before it
--   closed_at  us, moment    when it was closed
--   reason     text          why the gate was closed last
--   epoch      number        goes up with every change of the gate, which voids all slots; begins at the server's time,
--                            so that permits from before a wipe are void too
--   probing    0 | 1 | 2     the gate was closed, and no call has succeeded since: 2 by the breaker, 1 not
--   canary     us, moment    slot of the call that goes first, 0 when there is none
--   failures   number        failed calls in a row
--   trips      number        closings by the breaker in a row: they last 1, 2, 4 ... 300 s
--   opened     us, moment    a canary ended what the breaker began: failures from before are forgotten
-- retroscribe:limit:{<client>}:<class>:counts        hash   gone after two minutes idle:
--   <granted|rejected|failed>:<second modulo 128>   "second number"   slots in that second of Unix time; 429s and
--                                                                     failures that were reported in it

local HORIZON = SECOND -- how far ahead slots may be reserved at most
local LAG = 10000 -- so late a slot may be taken without moving those after it: see spacing()
local FAILURES = 5 -- in a row, then the breaker closes the gate
local SHARE = 0.2 -- of the calls of the last seconds: as well
local SHARE_SECONDS = 30
local SHARE_CALLS = 20 -- a fifth of fewer is three calls or less, which may be chance; of an outage the row knows first
local LONGEST_TRIP = 300
local IDLE_SECONDS = 86400
local CLASS = { 'gate', 'closed_at', 'epoch', 'probing', 'canary', 'failures', 'trips', 'opened' }

local pace_key, counts_key, class_key = KEYS[1], KEYS[2], KEYS[3]
local command, limit, share = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) * SECOND + tonumber(time[2])

-- Whole microseconds, rounded up: never faster than the rate. With a lag of 10 ms the slots of any second stay within
-- the published limit, because a ceiling of 0.99 of it leaves just that much of a second free.
local function spacing(rate)
  local interval = math.ceil(SECOND / rate)
  return interval, math.min(LAG, math.floor(interval / 2))
end

local function load(key, names)
  local values = redis.call('HMGET', key, 'reason', unpack(names))
  local found = { reason = values[1] or '' }
  for position, name in ipairs(names) do
    found[name] = tonumber(values[position + 1]) or 0
  end
  return found
end

local function save(key, names, found)
  local values = {}
  for _, name in ipairs(names) do
    values[#values + 1] = name
    values[#values + 1] = string.format('%.17g', found[name])
  end
  redis.call('HSET', key, unpack(values))
  redis.call('EXPIRE', key, IDLE_SECONDS)
end

local kept = {} -- the pace as Redis has it

local function load_pace()
  local values, pace = redis.call('HGETALL', pace_key), setmetatable({}, { __index = function() return 0 end })
  for position = 1, #values, 2 do
    kept[values[position]] = tonumber(values[position + 1])
    pace[values[position]] = kept[values[position]]
  end
  return pace
end

-- Writes what has changed.
local function save_pace(pace)
  local changed, gone = {}, {}
  for name, value in pairs(pace) do
    if value ~= (kept[name] or 0) then
      if value == 0 then
        gone[#gone + 1] = name
      else
        changed[#changed + 1] = name
        changed[#changed + 1] = string.format('%.17g', value)
      end
      kept[name] = value
    end
  end
  if #gone > 0 then
    redis.call('HDEL', pace_key, unpack(gone))
  end
  if #changed > 0 then
    redis.call('HSET', pace_key, unpack(changed))
    redis.call('EXPIRE', pace_key, IDLE_SECONDS)
  end
end

local function save_class(key, class)
  save(key, CLASS, class)
  redis.call('HSET', key, 'reason', class.reason)
  redis.call('EXPIRE', key, IDLE_SECONDS + math.ceil(math.max(0, class.gate - now) / SECOND))
end

local function load_class(key)
  local class = load(key, CLASS)
  class.is_new = class.epoch == 0
  if class.is_new then
    class.epoch = now
  end
  if class.closed_at > now + SECOND then
    -- The server's clock was set back: the gate is as long as it was, and not until the old time comes again.
    class.gate, class.closed_at, class.canary = now + class.gate - class.closed_at, now, 0
    save_class(key, class)
  end
  return class
end

local pace, class = load_pace(), load_class(class_key)
limit = pace.limit > 0 and pace.limit or limit
local ceiling = limit * share
if pace.rate == 0 then
  pace.tat, pace.rate = now, ceiling / 2
end
if pace.cut_at > now + SECOND or pace.seen_at > now + SECOND then
  -- The server's clock was set back: moments from before mean nothing any more.
  forget(pace)
end
pace.rate = math.min(pace.rate, ceiling)
local interval, lag = spacing(pace_rate(pace, now))

-- Slots that are reserved and have not come yet, and for how many seconds they reach.
local function reserved_ahead()
  local reach = math.max(0, pace.tat - now)
  return math.floor(reach / interval), reach / SECOND
end

-- Slots that have come, those of calls under way included.
local function sent()
  return pace.granted - reserved_ahead()
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

-- Of that many whole seconds that have passed.
local function total(what, seconds)
  local sum, present = 0, math.floor(now / SECOND)
  for second = present - seconds, present - 1 do
    sum = sum + counted(what, second)
  end
  return sum
end

-- The present second as well.
local function recent(what, seconds)
  return total(what, seconds) + counted(what, math.floor(now / SECOND))
end

local function answer(word, wait, slot)
  return { word, now, wait or 0, slot or 0, class.epoch, class.gate, class.failures, class.reason }
end

local function shut(a_class, length, reason)
  a_class.gate, a_class.closed_at, a_class.reason = now + length, now, reason
  a_class.epoch = a_class.epoch + 1
  a_class.probing, a_class.canary = math.max(1, a_class.probing), 0
end

-- Calls that were let go count as those that did not fail: a success then costs no round trip of its own.
local function too_many_fail()
  local since_opened = math.floor(now / SECOND) - math.floor(class.opened / SECOND)
  local seconds = math.min(SHARE_SECONDS, since_opened)
  local failed, calls = recent('failed', seconds), recent('granted', seconds)
  return calls >= SHARE_CALLS and failed >= SHARE * calls
end

-- Each closing lasts twice as long as the one before, unless calls have gone well for a while in between: an API that
-- answers only now and then must not have the first second's handful of failures again and again.
local function trip(reason)
  if class.probing < 2 and now - class.opened > SHARE_SECONDS * SECOND then
    class.trips = 0
  end
  class.trips = class.trips + 1
  shut(class, math.min(2 ^ (class.trips - 1), LONGEST_TRIP) * SECOND, reason)
  class.probing = 2
end

local commands = {}

function commands.acquire(horizon, lease, lane, call_class)
  if class.gate > now then
    return answer('gate', class.gate - now)
  end
  if class.probing > 0 and class.canary + tonumber(lease) > now then
    -- Ask soon while the canary is young, and seldom when it hangs.
    return answer('probing', math.floor(math.min(math.max((now - class.canary) / 2, SECOND / 10), SECOND)))
  end
  if pace.tat > now + HORIZON + 2 * interval then
    -- No slot is reserved so far ahead: the server's clock was set back. Don't wait for the old time to come again.
    pace.tat = now + HORIZON
    save_pace(pace)
  end
  if pace.bound_until > now and pace.granted >= pace.last_sent then
    return answer('later', math.ceil(pace.bound_until - now))
  end
  local due = math.max(pace.tat, now - lag)
  if due > now + tonumber(horizon) or yields(pace, now, lane, call_class) then
    wants(pace, now, lane, call_class)
    save_pace(pace)
    return answer('later', math.max(0, due - HORIZON - now))
  end
  local slot = math.max(due, now)
  if due == pace.tat then -- work waits, so the rate may grow
    grow(pace, ceiling, slot, interval / SECOND)
  end
  pace.newest, pace.undo, pace.tat, pace.granted = slot, pace.tat, due + interval, pace.granted + 1
  has_gone(pace, now, lane, call_class, interval)
  if class.probing > 0 then
    class.canary = slot
  end
  if class.probing > 0 or class.is_new then
    save_class(class_key, class)
  end
  count('granted', slot, 1)
  save_pace(pace)
  return answer(class.probing > 0 and 'canary' or 'slot', slot - now, slot)
end

function commands.check(epoch)
  return answer(tonumber(epoch) == class.epoch and class.gate <= now and 'open' or 'void')
end

function commands.give_back(epoch, slot)
  slot = tonumber(slot)
  if tonumber(epoch) ~= class.epoch then
    return answer('done')
  end
  if slot == class.canary then
    class.canary = 0
    save_class(class_key, class)
  end
  if slot == pace.newest then
    -- A microsecond later, so that no two permits have the same slot, and giving back twice takes nobody else's.
    pace.newest, pace.tat, pace.granted = 0, pace.undo + 1, pace.granted - 1
    count('granted', slot, -1)
    save_pace(pace)
  end
  return answer('done')
end

local function close(key, a_class, length, reason)
  if now + length > a_class.gate then
    shut(a_class, length, reason)
    save_class(key, a_class)
  end
end

function commands.close_gate(length, reason, rejected, epoch)
  length = tonumber(length)
  local is_news = epoch == '' or tonumber(epoch) == class.epoch
  close(class_key, class, length, reason)
  if rejected == '1' then
    count('rejected', now, 1)
    for position = 4, #KEYS do
      close(KEYS[position], load_class(KEYS[position]), length, reason)
    end
    -- The slots that were reserved ahead are void: all but those that have passed are free again.
    local slots, seconds = reserved_ahead()
    pace.granted = pace.granted - slots
    pace.tat, pace.newest = math.min(pace.tat, now + interval), 0
    if is_news then
      cut(pace, ceiling, now, class.gate, seconds)
    end
    save_pace(pace)
  end
  return answer('done')
end

-- A call whose permit is older than the last change of the gate says nothing about what came after it. While probing,
-- only canaries get permits of the present epoch.
function commands.settle(epoch, ok, immediately, reason)
  if tonumber(epoch) ~= class.epoch then
    return answer('done')
  end
  if ok == '1' then
    if class.probing == 2 then
      class.opened = now
    end
    class.failures, class.probing, class.canary = 0, 0, 0
  else
    count('failed', now, 1)
    class.failures = class.failures + 1
    if class.probing > 0 or immediately == '1' or class.failures >= FAILURES or too_many_fail() then
      trip(reason)
    end
  end
  save_class(class_key, class)
  return answer('done')
end

function commands.observe(count_, allowed, reset)
  observe(pace, now, sent(), tonumber(count_), tonumber(allowed), tonumber(reset))
  save_pace(pace)
  return answer('done')
end

function commands.set_limit(wanted)
  if tonumber(wanted) ~= pace.limit then
    pace.limit = tonumber(wanted)
    forget(pace)
    save_pace(pace)
  end
  return answer('done')
end

function commands.peek()
  local figures = answer('done')
  figures[#figures + 1] = string.format('%.17g', pace_rate(pace, now))
  figures[#figures + 1] = math.min(1, class.probing)
  figures[#figures + 1] = recent('rejected', 60)
  figures[#figures + 1] = total('granted', 60)
  figures[#figures + 1] = total('granted', 10)
  figures[#figures + 1] = string.format('%.17g', limit)
  figures[#figures + 1] = string.format('%.17g', pace.mark)
  figures[#figures + 1] = pace.bound_until > now and string.format('%.17g', math.max(0, pace.others)) or '-1'
  return figures
end

return commands[command](unpack(ARGV, 4))
