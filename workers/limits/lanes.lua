-- Who goes first when several want the next slot of a bucket, and what nobody can take from them.

local LANES = { live = 2, backfill = 1 }
local SURE = { backfill = 0.1, status = 0.05 } -- shares of the slots for a lane, and for a class on a shared bucket
local LONGEST_TURN_SECONDS = 120 -- a twentieth of the slowest rate
local WANTS = { live = 0.3, backfill = 1 } -- seconds for which one who was refused is expected to ask again

-- Live before backfill; then what leads to a submission, or tells of one, before submissions.
local function rank(lane, class)
  return 2 * LANES[lane] + (class == 'submit' and 0 or 1)
end

-- Whether a moment lies ahead, by no more than it was set to: else the server's clock was set back.
local function ahead(moment, now, seconds)
  return moment > now and moment <= now + seconds * SECOND
end

-- Whether the lane or the class has had less than its sure share since it had its last slot.
local function entitled(pace, now, lane, class)
  for _, name in ipairs({ lane, class }) do
    if SURE[name] and not ahead(pace['turn:' .. name], now, LONGEST_TURN_SECONDS) then
      return true
    end
  end
  return false
end

local function goes_before(pace, now, lane, class, other_lane, other_class)
  local sure, other_sure = entitled(pace, now, lane, class), entitled(pace, now, other_lane, other_class)
  if sure ~= other_sure then
    return sure
  end
  return rank(lane, class) > rank(other_lane, other_class)
end

-- Whether somebody else who was refused a moment ago goes before these.
local function yields(pace, now, lane, class)
  for name, until_ in pairs(pace) do
    local other_lane, other_class = string.match(name, '^wants:(%a+):(%a+)$')
    if other_lane and ahead(until_, now, WANTS[other_lane]) and goes_before(pace, now, other_lane, other_class, lane, class) then
      return true
    end
  end
  return false
end

local function wants(pace, now, lane, class)
  pace['wants:' .. lane .. ':' .. class] = now + WANTS[lane] * SECOND
end

local function has_gone(pace, now, lane, class, interval)
  for _, name in ipairs({ lane, class }) do
    if SURE[name] then
      pace['turn:' .. name] = now + interval / SURE[name]
    end
  end
end
